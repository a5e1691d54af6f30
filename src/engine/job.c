/*
 * job.c
 *		What a pool session does: one job, from its transactions' start to
 *		their end.
 *
 * Run by pool sessions, as the handler's role.  Walks an event's way: ask the
 * breaker, hand out, run, settle (handout.c, run.c, retry.c), again and again
 * until there is nothing left, the breaker opens, or the scheduler wants the
 * session for something else.
 */
#include "postgres.h"

#include "engine/broken.h"
#include "engine/handout.h"
#include "engine/index_job.h"
#include "engine/job.h"
#include "engine/job_run.h"
#include "engine/retry.h"
#include "engine/run.h"
#include "engine/session.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/departure.h"
#include "state/guc.h"
#include "state/log_line.h"
#include "state/pool.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A chunk takes about this long. */
#define CHUNK_TIME_US	50000.0

/* The first chunk of a handler whose speed is not known. */
#define FIRST_CHUNK		16

/* Up to this size losing a hand-out in a crash is harmless: design, 2.2. */
#define SMALL_CHUNK		16

/* A job that fails outside its handler is repeated after 1 s, 2 s, ... */
#define MAX_JOB_DELAY_MS	30000

/* Jobs that have failed in a row in this session. */
static int	failures_in_a_row = 0;

/* The handler, if it is to run at present; NULL else. */
static const DbOptHandler *
handler_to_run(const DbOptJobRun *run, const DbOptConfig *config)
{
	const DbOptHandler *handler = dbopt_config_handler(config,
													   run->job->handler_id);

	if (config->paused || handler == NULL || handler->paused ||
		!handler->usable || handler->role != GetUserId())
		return NULL;
	return handler;
}

/* Begins a round: a transaction, in which the configuration is read. */
bool
dbopt_job_round_begin(DbOptJobRun *run)
{
	DbOptDelivery *delivery = &run->delivery;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(run->round_context);
	MemoryContextSwitchTo(run->round_context);
	memset(delivery, 0, sizeof(*delivery));
	dbopt_config_release();		/* those of the rounds before */
	dbopt_config_hold();
	delivery->context = run->round_context;
	dbopt_exec_begin();
	dbopt_session_reset_settings();
	delivery->config = dbopt_config_look();
	delivery->handler = handler_to_run(run, delivery->config);
	delivery->slot = dbopt_handler_find(MyDatabaseId, run->job->handler_id);
	return delivery->handler != NULL;
}

/* Ends a transaction that cannot fail to commit but by an accident. */
void
dbopt_job_round_commit(DbOptJobRun *run, DbOptDurability durability)
{
	DbOptFailure failure;

	if (!dbopt_exec_commit(run->round_context, durability, 0, &failure))
		dbopt_exec_raise_commit(&failure);
}

void
dbopt_job_finish(DbOptJobRun *run, DbOptJobOutcome outcome)
{
	run->result->outcome = outcome;
}

void
dbopt_job_finish_rejected(DbOptJobRun *run)
{
	TimestampTz until = dbopt_circuit_blocked_until(run->delivery.slot);

	run->result->retry_at = until;
	dbopt_job_finish(run, until == 0 ? DBOPT_JOB_MORE : DBOPT_JOB_REJECTED);
}

/* The handler cannot be called: nobody tries again until that is mended. */
static void
finish_broken(DbOptJobRun *run)
{
	dbopt_exec_begin();
	dbopt_handler_set_broken(run->job->handler_id, run->delivery.broken);
	dbopt_job_round_commit(run, DBOPT_COMMIT_AS_SET);
	dbopt_job_finish(run, DBOPT_JOB_DONE);
}

static void
finish_locked(DbOptJobRun *run)
{
	dbopt_job_finish(run, run->delivery.handler_locked ?
					 DBOPT_JOB_HANDLER_LOCKED : DBOPT_JOB_LOCKED);
}

void
dbopt_job_finish_blocked(DbOptJobRun *run)
{
	if (run->delivery.broken != NULL)
		finish_broken(run);
	else if (run->delivery.locked)
		finish_locked(run);
	else
		dbopt_job_finish_rejected(run);
}

/* How many events to ask for: about CHUNK_TIME_US of the handler's time. */
static int
wanted_events(const DbOptDelivery *delivery)
{
	double		mean = dbopt_stats_mean_time(delivery->slot);
	int			limit = dbopt_chunk_size;

	if (delivery->handler->chunk_size > 0)
		limit = Min(limit, delivery->handler->chunk_size);
	if (mean <= 0)
		return Min(limit, FIRST_CHUNK);
	return (int) Max(Min(CHUNK_TIME_US / mean, (double) limit), 1);
}

/* The cursor of the job, read once, in a transaction; false: it is gone. */
bool
dbopt_job_find_cursor(DbOptJobRun *run)
{
	MemoryContext previous;

	if (run->cursor == NULL)
	{
		previous = MemoryContextSwitchTo(run->context);
		run->cursor = dbopt_cursor_load(run->job->cursor_id);
		MemoryContextSwitchTo(previous);
	}
	return run->cursor != NULL;
}

/*
 * The handler may be replaced by one that does not get this event type; on a
 * mark_processed source another one may be the right one by now.
 */
bool
dbopt_job_is_handlers_cursor(const DbOptJobRun *run)
{
	const DbOptDelivery *delivery = &run->delivery;

	return dbopt_cursor_handler(delivery->config,
								run->cursor) == delivery->handler;
}

/* Runs a chunk; true: it is settled and the job may go on. */
bool
dbopt_job_run_chunk(DbOptJobRun *run, int64 seq, int events)
{
	DbOptRunResult result;

	dbopt_session_in_flight(run->delivery.slot, events);
	result = dbopt_run_chunk(&run->delivery, run->cursor, seq);
	dbopt_session_in_flight(run->delivery.slot, -events);
	dbopt_delivery_release(&run->delivery);
	if (result == DBOPT_RUN_SETTLED)
		return true;
	run->result->leftover = true;
	dbopt_job_finish_blocked(run);
	return false;
}

/* Hands out and runs one chunk; true: there may be more to do. */
static bool
deliver_round(DbOptJobRun *run)
{
	DbOptDelivery *delivery = &run->delivery;
	DbOptChunk	chunk;
	DbOptHandoutResult result;

	if (!dbopt_job_round_begin(run) || !dbopt_job_find_cursor(run) || !dbopt_job_is_handlers_cursor(run))
	{
		dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
		return false;
	}
	if (!dbopt_delivery_admit(delivery, wanted_events(delivery)))
	{
		dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
		dbopt_job_finish_rejected(run);
		return false;
	}
	if (!dbopt_delivery_lock_table(delivery))
	{
		dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
		dbopt_delivery_release(delivery);
		finish_locked(run);
		return false;
	}
	result = dbopt_handout(delivery->config, delivery->handler->source,
						   run->cursor, delivery->unreported, &chunk);
	dbopt_job_round_commit(run, chunk.events > SMALL_CHUNK ? DBOPT_COMMIT_SYNC :
						   DBOPT_COMMIT_ASYNC);
	if (result == DBOPT_HANDOUT_NONE)
	{
		dbopt_delivery_release(delivery);
		return false;
	}
	if (result == DBOPT_HANDOUT_FULL)
		dbopt_session_more_work();
	return dbopt_job_run_chunk(run, chunk.seq, chunk.events) &&
		result == DBOPT_HANDOUT_FULL;
}

static void
deliver(DbOptJobRun *run)
{
	while (deliver_round(run))
		if (dbopt_session_should_yield())
		{
			dbopt_job_finish(run, DBOPT_JOB_MORE);
			return;
		}
}

/*
 * Runs a chunk that a session has left over.  One that is not this handler's to
 * run, or not as this role, is left over again: the scheduler, which may have
 * been told of that when it took the chunk to be at work, has it run otherwise.
 */
static void
run_leftover(DbOptJobRun *run)
{
	bool		ready = dbopt_job_round_begin(run) && dbopt_job_find_cursor(run) &&
	dbopt_job_is_handlers_cursor(run);

	dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
	if (!ready)
	{
		run->result->leftover = true;
		return;
	}
	if (!dbopt_delivery_admit(&run->delivery, wanted_events(&run->delivery)))
	{
		run->result->leftover = true;
		dbopt_job_finish_rejected(run);
		return;
	}
	(void) dbopt_job_run_chunk(run, run->job->seq, 0);
}

/*
 * Tells the scheduler when the next of the handler's retries is due: after the
 * time the last batch was claimed at, which took all that were due by then.
 */
static void
announce_next_retry(DbOptJobRun *run)
{
	TimestampTz next;

	dbopt_exec_begin();
	next = dbopt_queue_next(run->job->handler_id, run->claimed_at);
	dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
	dbopt_session_retry_at(run->delivery.slot, next);
}

/* Runs a batch of retries; true: there may be more. */
static bool
retry_round(DbOptJobRun *run)
{
	DbOptRetryResult result;
	bool		ready = dbopt_job_round_begin(run);

	run->claimed_at = GetCurrentTimestamp();
	dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
	if (!ready)
		return false;
	if (!dbopt_delivery_admit(&run->delivery, DBOPT_SINGLE_BATCH))
	{
		dbopt_job_finish_rejected(run);
		return false;
	}
	result = dbopt_retry_batch(&run->delivery, &run->retry_since);
	run->result->skipped |= run->delivery.skipped;
	dbopt_delivery_release(&run->delivery);
	if (result == DBOPT_RETRY_BLOCKED)
		dbopt_job_finish_blocked(run);
	return result == DBOPT_RETRY_SOME;
}

static void
retry(DbOptJobRun *run)
{
	run->retry_since = run->job->since;
	while (retry_round(run))
		if (dbopt_session_should_yield())
		{
			dbopt_job_finish(run, DBOPT_JOB_MORE);
			return;
		}
	if (run->result->outcome == DBOPT_JOB_DONE)
		announce_next_retry(run);
}

static void
run_job(void *arg)
{
	DbOptJobRun *run = arg;

	dbopt_config_hold();
	switch (run->job->kind)
	{
		case DBOPT_JOB_DELIVER:
			deliver(run);
			break;
		case DBOPT_JOB_CHUNK:
			run_leftover(run);
			break;
		case DBOPT_JOB_RETRY:
			retry(run);
			break;
		case DBOPT_JOB_SUSPECTS:
			dbopt_job_run_suspects(run);
			break;
		case DBOPT_JOB_INDEX:
			dbopt_index_job_run(NameStr(run->job->index), run->context);
			break;
		case DBOPT_JOB_LOG_INDEX:	/* log_build.c */
		case DBOPT_JOB_SQL:		/* pooled_run.c */
		case DBOPT_JOB_NONE:
			break;
	}
}

static void
log_failure(const DbOptJobRun *run, const DbOptFailure *failure, int delay)
{
	DbOptHandlerState handler;
	DbOptLogLine line = {
		.kind = DBOPT_LOG_JOB,
		.slot = dbopt_handler_find(MyDatabaseId, run->job->handler_id),
		.attempt = failures_in_a_row,
		.sqlstate = failure->sqlstate,
		.delay = (int64) delay * 1000
	};

	if (dbopt_handler_copy(MyDatabaseId, run->job->handler_id, &handler))
		line.handler = NameStr(handler.name);
	line.message = psprintf("a job of handler %s failed and is repeated: %s",
							line.handler != NULL ?
							psprintf("\"%s\"", line.handler) :
							psprintf("%d", run->job->handler_id),
							dbopt_log_error_text(failure->sqlstate,
												 failure->message));
	dbopt_log_line(&line);
}

/*
 * Without memory this session gets no further, however often it tries, and may
 * not get to the end of this; the next one may, and the scheduler sees that it
 * is not too soon.  If a handler was called, it may have left it so, which is
 * noted first.
 */
static void
job_failed(DbOptJobRun *run, const DbOptFailure *failure)
{
	int			delay = Min(1000 << Min(failures_in_a_row, 5),
							MAX_JOB_DELAY_MS);
	bool		starved = dbopt_exec_is_starved(failure);

	if (starved)
		dbopt_departure_starved();
	dbopt_delivery_release(&run->delivery);
	dbopt_session_land();
	dbopt_attempt_take_back();
	failures_in_a_row++;
	run->result->leftover = true;
	run->result->retry_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
	dbopt_job_finish(run, DBOPT_JOB_FAILED);
	log_failure(run, failure, delay);
	if (starved)
		proc_exit(1);
}

void
dbopt_job_run(const DbOptJob *job, DbOptJobResult *result)
{
	MemoryContext previous = CurrentMemoryContext;
	DbOptJobRun *run = MemoryContextAllocZero(TopMemoryContext, sizeof(DbOptJobRun));
	DbOptFailure failure;

	memset(result, 0, sizeof(*result));
	run->job = job;
	run->result = result;
	run->context = AllocSetContextCreate(TopMemoryContext, "dbopt job",
										 ALLOCSET_DEFAULT_SIZES);
	run->round_context = AllocSetContextCreate(run->context, "dbopt round",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(run->context);
	if (dbopt_exec_guard(run_job, run, &failure))
		failures_in_a_row = 0;
	else
		job_failed(run, &failure);
	result->first_retry_at = dbopt_session_take_retry();
	MemoryContextSwitchTo(previous);
	dbopt_config_release();
	MemoryContextDelete(run->context);
	pfree(run);
}
