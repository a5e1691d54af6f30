/*
 * pooled_call.c
 *		A caller's SQL, seen from its backend.
 *
 * Run by any backend, in a transaction.  The segment belongs to the current
 * resource owner: whatever ends the call (an error, a cancel, the end of the
 * process) detaches it, and that tells the session to stop.
 */
#include "postgres.h"

#include "compat.h"
#include "engine/latch_spin.h"
#include "engine/pooled.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/caller.h"
#include "state/guc.h"
#include "state/log_line.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

typedef struct PooledCall
{
	DbOptPooledSegment segment;
	TimestampTz deadline;		/* for a session to be there */
	Tuplestorestate *store;
	TupleDesc	desc;
	MemoryContext scratch;		/* of a notice */
	bool		done;
	ErrorData  *error;			/* that the session raised */
} PooledCall;

/* What has to be given back when the call ends; one call at a time. */
static shm_mq_handle *queue = NULL; /* NULL: the answer has been read */
static MemoryContext queue_context = NULL;

static DbOptSpin answers;		/* whether to wait awake for one */

/* ---- beginning and end --------------------------------------------------- */

/*
 * The queue is attached to without the segment, which would wake the session
 * at the end of each call: only one that has not answered need hear of it.  Its
 * memory is the transaction's, since an abort frees that of what runs before
 * it detaches the segment.
 */
static void
open_queue(const DbOptPooledSegment *segment)
{
	MemoryContext previous;

	queue_context = AllocSetContextCreate(TopTransactionContext, "dbopt queue",
										  ALLOCSET_SMALL_SIZES);
	previous = MemoryContextSwitchTo(queue_context);
	shm_mq_set_receiver(segment->queue, MyProc);
	queue = shm_mq_attach(segment->queue, NULL, NULL);
	MemoryContextSwitchTo(previous);
}

static void
close_queue(void)
{
	MemoryContextDelete(queue_context);
	queue_context = NULL;
	queue = NULL;
}

/* Raises nothing: may be part of an abort. */
static void
call_ended(dsm_segment *segment, Datum arg)
{
	pg_atomic_write_u32((pg_atomic_uint32 *) DatumGetPointer(arg), 1);
	if (queue != NULL)
	{
		shm_mq_detach(queue);
		close_queue();
	}
	dbopt_caller_leave();
	dbopt_pooled_breaker_release();
}

/* From now on the caller waits for a session. */
static void
set_deadline(PooledCall *call)
{
	call->deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									dbopt_pool_limits().acquire_timeout);
}

/*
 * From the time on that the breaker has let the call through, whatever ends the
 * call tells it so.
 */
static void
begin_call(PooledCall *call, const DbOptPooledRequest *request)
{
	call->scratch = AllocSetContextCreate(CurrentMemoryContext, "dbopt notice",
										  ALLOCSET_SMALL_SIZES);
	dbopt_pooled_segment_make(request, &call->segment);
	on_dsm_detach(call->segment.segment, call_ended,
				  PointerGetDatum(call->segment.gone));
	dbopt_pooled_breaker_ask();
	open_queue(&call->segment);
	set_deadline(call);
	dbopt_caller_enter(GetUserId(), request->role_limit,
					   dsm_segment_handle(call->segment.segment),
					   call->segment.queue);
}

/* ---- what the session says ----------------------------------------------- */

/* Whatever encoding the statement has chosen, it is not taken over unseen. */
static void
verify(char **text)
{
	if (*text !=NULL && !pg_verifymbstr(*text, strlen(*text), true))
		*text = pstrdup("(text in another encoding)");
}

static void
parse_error(const char *data, Size length, ErrorData *error)
{
	StringInfoData message;

	initStringInfo(&message);
	appendBinaryStringInfo(&message, data, length);
	pq_parse_errornotice(&message, error);
	verify(&error->message);
	verify(&error->detail);
	verify(&error->hint);
	verify(&error->context);
	verify(&error->internalquery);
	verify(&error->schema_name);
	verify(&error->table_name);
	verify(&error->column_name);
	verify(&error->datatype_name);
	verify(&error->constraint_name);
}

/* There may be any number of them. */
static void
pass_notice(const PooledCall *call, const char *data, Size length)
{
	MemoryContext previous = MemoryContextSwitchTo(call->scratch);
	ErrorData	notice;

	parse_error(data, length, &notice);
	ThrowErrorData(&notice);
	MemoryContextSwitchTo(previous);
	MemoryContextReset(call->scratch);
}

/* The session's end need not be the caller's; but where it is, that is said. */
static void
raise_lost(const char *detail)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_POOL,
		.slot = dbopt_pooled_breaker_slot(),
		.message = "a dbopt session has died at work",
		.sqlstate = "08006",
		.subject = "role",
		.subject_value = GetUserNameFromId(GetUserId(), true)
	};

	CHECK_FOR_INTERRUPTS();
	dbopt_pooled_breaker_failure();
	dbopt_log_line(&line);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the pool session that ran the statement has gone"),
			 detail != NULL ? errdetail_internal("%s", detail) : 0,
			 errhint("Whether it had committed is not known.")));
}

static void
take_error(PooledCall *call, const char *data, Size length)
{
	call->error = palloc(sizeof(ErrorData));
	parse_error(data, length, call->error);
	if (call->error->elevel >= FATAL)
		raise_lost(call->error->message);
	call->done = true;
}

static void
take_message(PooledCall *call, const char *data, Size length)
{
	switch (data[0])
	{
		case DBOPT_POOLED_ROWS:
			dbopt_pooled_rows_store(data, length, call->store, call->desc);
			break;
		case 'N':
			pass_notice(call, data + 1, length - 1);
			break;
		case 'E':
			take_error(call, data + 1, length - 1);
			break;
		case DBOPT_POOLED_DONE:
			call->done = true;
			break;
		default:				/* nothing that a caller needs */
			break;
	}
}

/* ---- waiting ------------------------------------------------------------- */

/* The error is the caller's to log, or to forget. */
static void
log_no_session(const DbOptCaller *caller)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_POOL,
		.slot = dbopt_pooled_breaker_slot(),
		.message = "a caller has found no pool session in time",
		.sqlstate = "53300",
		.duration = GetCurrentTimestamp() - caller->since,
		.subject = "role",
		.subject_value = GetUserNameFromId(caller->roleid, true)
	};

	dbopt_log_line(&line);
}

/* How long to sleep now, in milliseconds. */
static long
patience(const PooledCall *call, const DbOptCaller *caller)
{
	long		left;

	if (caller->state != DBOPT_CALLER_WAITING)
		return DeadlockTimeout;
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   call->deadline);
	if (left <= 0)
	{
		dbopt_pooled_breaker_failure();
		log_no_session(caller);
		dbopt_pooled_raise_no_session(caller);
	}
	return left;
}

/*
 * The session has gone without having opened the segment.  The caller, and
 * maybe it, stand in the queue of messages already: it is made anew.
 */
static void
wait_again(PooledCall *call)
{
	close_queue();
	(void) shm_mq_create(call->segment.queue, DBOPT_POOLED_QUEUE_SIZE);
	open_queue(&call->segment);
	set_deadline(call);
	dbopt_caller_wait_again();
}

/*
 * Sleeps until the session may have said something.  False: it has gone.
 */
static bool
sleep_until_news(PooledCall *call)
{
	DbOptCaller caller;
	int			events;

	dbopt_caller_look(&caller);
	if (caller.state == DBOPT_CALLER_RETURNED)
	{
		wait_again(call);
		return true;
	}
	if (caller.state == DBOPT_CALLER_LOST)
		return false;
	if (caller.awake)
		dbopt_latch_spin(&answers);
	events = WaitLatch(MyLatch,
					   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   patience(call, &caller), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if ((events & WL_TIMEOUT) != 0 && caller.state == DBOPT_CALLER_SERVED)
		dbopt_pooled_check_deadlock();
	return true;
}

/* What it said before it went is read first. */
static void
receive_answer(PooledCall *call)
{
	bool		present = true;
	void	   *data;
	Size		length;

	while (!call->done)
	{
		switch (shm_mq_receive(queue, &length, &data, true))
		{
			case SHM_MQ_SUCCESS:
				take_message(call, data, length);
				CHECK_FOR_INTERRUPTS();
				break;
			case SHM_MQ_WOULD_BLOCK:
				if (!present)
					raise_lost(NULL);
				present = sleep_until_news(call);
				break;
			case SHM_MQ_DETACHED:
				raise_lost(NULL);
		}
	}
}

void
dbopt_pooled_call(const DbOptPooledRequest *request, Tuplestorestate *store,
				  TupleDesc desc)
{
	PooledCall	call = {.store = store,.desc = desc};

	begin_call(&call, request);
	receive_answer(&call);
	close_queue();
	dbopt_caller_answered();
	if (call.error == NULL)
		dbopt_pooled_breaker_success();
	else
		dbopt_pooled_breaker_error(call.error);
	dsm_detach(call.segment.segment);
	MemoryContextDelete(call.scratch);
	if (call.error != NULL)
		ThrowErrorData(call.error);
}
