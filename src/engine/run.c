/*
 * run.c
 *		Running a chunk that has been handed out.
 *
 * Run by pool sessions, as the handler's role.  A chunk is run in one or more
 * transactions ("steps").  Each locks the events table, then the chunk's row,
 * takes a new snapshot, runs events from the chunk's lower bound on
 * (run_events.c), writes down what failed, moves the bound or deletes the
 * chunk, and commits: effects, failures and progress are one.
 *
 * When a commit fails, or the events cannot be marked as processed before it,
 * the same events run again one a transaction.  One that was alone in a
 * transaction whose commit failed has failed: the next step writes that down
 * instead of calling the handler, if it finds this event first, since another
 * session may have run it between the two.
 *
 * A handler that ends its session has its events run one a transaction for a
 * while, too, until it is known which of them it does that at; that one has
 * failed (departure.h).
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/run_step.h"
#include "engine/session.h"
#include "miscadmin.h"
#include "state/departure.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Writes down what has become of the step's events. */
static void
step_settle(DbOptRun *run)
{
	run->unsettled = !dbopt_outcome_settle(&run->outcome, run->ordered,
										   &run->commit_failure);
	if (run->unsettled)
		return;
	if (run->at_end)
		dbopt_chunk_delete(&run->chunk);
	else if (run->events > 0)
		dbopt_chunk_advance(run->log, &run->chunk, &run->done);
}

/*
 * Who is to blame if the commit fails: the only event that was run.  NULL when
 * there were several, or none.
 */
static DbOptPlace *
find_suspect(const DbOptRun *run)
{
	MemoryContext previous;
	DbOptPlace *suspect;

	if (run->calls != 1 || !run->called_alone)
		return NULL;
	previous = MemoryContextSwitchTo(run->delivery->context);
	suspect = palloc(sizeof(DbOptPlace));
	*suspect = run->called;
	suspect->key = dbopt_log_key_copy(run->log, run->called.key);
	MemoryContextSwitchTo(previous);
	return suspect;
}

/*
 * The work of one transaction, in it.  Sets settled, blocked or neither, for
 * another step to follow.
 */
static void
step_work(DbOptRun *run)
{
	const DbOptSource *source = run->delivery->handler->source;

	if (!dbopt_delivery_lock_table(run->delivery))
	{
		run->blocked = true;
		return;
	}
	run->log = dbopt_log_open_source(source);
	if (!dbopt_chunk_lock(run->log, run->cursor->cursor_id, run->seq,
						  &run->chunk))
	{
		run->settled = true;
		dbopt_log_close(run->log);
		return;
	}
	run->snapshot = dbopt_log_snapshot(&run->log);
	run->source.log = run->log;
	run->source.snapshot = run->snapshot;
	run->source.event_type = run->cursor->event_type;
	run->source.chunk = &run->chunk;
	dbopt_outcome_begin(&run->outcome, run->delivery, run->log,
						run->cursor->event_type);
	run->done = run->chunk.from;
	dbopt_delivery_prepare(run->delivery, &run->call, run->log);
	run->blocked = run->delivery->broken != NULL;
	dbopt_run_events(run);
	step_settle(run);
	run->suspect = find_suspect(run);
	UnregisterSnapshot(run->snapshot);
	dbopt_log_close(run->log);
}

static void
step_begin(DbOptRun *run)
{
	run->at_end = false;
	run->events = 0;
	run->calls = 0;
	run->called_alone = false;
	run->unsettled = false;
	run->ordered = NULL;
	dbopt_delivery_begin(run->delivery);
	dbopt_exec_begin();
	dbopt_session_reset_settings();
}

/*
 * Ends the step's transaction; false: it was rolled back, and commit_failure
 * says why.  An intermediate one need not be durable at once: when it is lost,
 * effects and progress are lost together.
 */
static bool
step_commit(DbOptRun *run)
{
	MemoryContext context = run->delivery->context;
	int64		timeout = run->calls > 0 ? run->delivery->handler->timeout : 0;
	DbOptFailure failure;

	if (run->unsettled)
		dbopt_exec_roll_back(context, &run->commit_failure);
	else if (dbopt_exec_commit(context, run->at_end ? DBOPT_COMMIT_AS_SET :
							   DBOPT_COMMIT_ASYNC, timeout, &failure))
		return true;
	else
		run->commit_failure = failure;
	dbopt_delivery_name_timeout(run->delivery, &run->commit_failure);
	return false;
}

/* One transaction. */
static void
run_step(DbOptRun *run)
{
	step_begin(run);
	step_work(run);
	if (step_commit(run))
	{
		dbopt_delivery_committed(run->delivery);
		run->settled = run->settled || run->at_end;
		run->suspect = NULL;
		return;
	}
	dbopt_delivery_commit_failed(run->delivery, run->calls,
								 &run->commit_failure);
	run->blocked = false;
	run->mode = DBOPT_RUN_ISOLATED;
}

/* More of the chunk than was admitted is left: asks for the rest. */
static bool
admit_more(DbOptRun *run)
{
	if (run->delivery->unreported > 0)
		return true;
	return dbopt_delivery_admit(run->delivery, Max(run->chunk.events, 1));
}

static DbOptRunMode
first_mode(const DbOptDelivery *delivery)
{
	if (dbopt_departure_is_recent(delivery->slot))
		return DBOPT_RUN_ISOLATED;
	return delivery->handler->ordered ||
		dbopt_stats_failure_rate(delivery->slot) > DBOPT_RARE_FAILURES ?
		DBOPT_RUN_SINGLE : DBOPT_RUN_BULK;
}

DbOptRunResult
dbopt_run_chunk(DbOptDelivery *delivery, const DbOptCursor *cursor, int64 seq)
{
	DbOptRun   *run = palloc0(sizeof(DbOptRun));

	run->delivery = delivery;
	run->cursor = cursor;
	run->seq = seq;
	run->slice_context = AllocSetContextCreate(delivery->context,
											   "dbopt slice",
											   ALLOCSET_DEFAULT_SIZES);
	run->mode = first_mode(delivery);
	do
	{
		CHECK_FOR_INTERRUPTS();
		run_step(run);
	} while (!run->settled && !run->blocked && admit_more(run));
	MemoryContextDelete(run->slice_context);
	return run->settled ? DBOPT_RUN_SETTLED : DBOPT_RUN_BLOCKED;
}
