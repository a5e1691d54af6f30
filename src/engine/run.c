/*
 * run.c
 *		Running a chunk that has been handed out.
 *
 * Run by pool sessions, as the handler's role.  A chunk is run in one or more
 * transactions ("steps").  Each locks the events table, then the chunk's row,
 * takes a new snapshot, runs events from the chunk's lower bound on, writes
 * down what failed, moves the bound or deletes the chunk, and commits: effects,
 * failures and progress are one.
 *
 * In bulk, slices of the chunk run in a subtransaction each.  A slice of more
 * than one event that fails runs again event by event, so that one bad event
 * costs only itself; such a step ends after DBOPT_SINGLE_BATCH events, since
 * PostgreSQL caches 64 subtransaction ids of a backend and more slow down every
 * snapshot.  When a commit fails, or the events cannot be marked as processed
 * before it, the same events run again one a transaction.
 * One that was alone in a transaction whose commit failed has failed: the next
 * step writes that down instead of calling the handler, if it finds this event
 * first, since another session may have run it between the two.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/chunk.h"
#include "engine/ordered.h"
#include "engine/outcome.h"
#include "engine/run.h"
#include "engine/session.h"
#include "engine/stream.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Above this share of failures a handler runs event by event. */
#define RARE_FAILURES	0.05

typedef enum RunMode
{
	RUN_BULK,
	RUN_SINGLE,
	RUN_ISOLATED
} RunMode;

typedef struct Run
{
	DbOptDelivery *delivery;
	const DbOptCursor *cursor;
	int64		seq;
	RunMode		mode;
	bool		settled;
	bool		blocked;
	DbOptPlace *suspect;		/* the only event of a step, until that has
								 * committed; NULL */
	DbOptFailure commit_failure;
	MemoryContext slice_context;
	DbOptSlice	slice;

	/* Of the present step. */
	DbOptLog   *log;
	Snapshot	snapshot;
	DbOptChunk	chunk;
	DbOptSliceSource source;	/* of slices: the three above */
	DbOptCall	call;
	DbOptPlace	done;			/* up to here events have run */
	bool		at_end;
	int			events;			/* run in this step */
	int			calls;			/* events the handler was called for */
	bool		called_alone;	/* the last of them, at "called" */
	DbOptPlace	called;
	DbOptOutcome outcome;		/* of the events that were run */
	bool		unsettled;		/* they could not be marked: that is
								 * commit_failure, too */
	DbOptOrdered *ordered;		/* of an ordered handler's slice; NULL */
} Run;

/* How many events the next slice may have. */
static int
slice_limit(const Run *run)
{
	int			limit = Min(DBOPT_SLICE_EVENTS, run->delivery->unreported);

	switch (run->mode)
	{
		case RUN_BULK:
			return limit;
		case RUN_SINGLE:
			return Min(limit, DBOPT_SINGLE_BATCH - run->events);
		case RUN_ISOLATED:
			break;
	}
	return 1;
}

/* Reads the next events of the chunk into memory. */
static void
slice_fetch(Run *run)
{
	MemoryContext previous;

	MemoryContextReset(run->slice_context);
	previous = MemoryContextSwitchTo(run->slice_context);
	dbopt_slice_fetch(&run->slice, &run->source, &run->done,
					  slice_limit(run));
	MemoryContextSwitchTo(previous);
}

/* The first "count" events of the slice are done with. */
static void
slice_done(Run *run, int count)
{
	const DbOptSlice *slice = &run->slice;

	if (count > 0)
	{
		run->done = slice->places[count - 1];
		run->done.key = dbopt_log_key_copy(run->log, run->done.key);
		run->events += count;
	}
	run->at_end = count == slice->count &&
		(slice->is_last ||
		 (count > 0 && dbopt_slice_is_end(&run->source,
										  &slice->places[count - 1])));
}

/* Runs events of the chunk as they are read. */
static bool
run_stream(Run *run)
{
	DbOptStream stream = {0};
	DbOptFailure failure;
	MemoryContext previous;
	bool		succeeded;

	stream.source = &run->source;
	stream.call = &run->call;
	stream.from = run->done;
	stream.limit = slice_limit(run);
	MemoryContextReset(run->slice_context);
	previous = MemoryContextSwitchTo(run->slice_context);
	succeeded = dbopt_delivery_try_function(run->delivery, dbopt_stream_run,
											&stream, &stream.count, &failure);
	MemoryContextSwitchTo(previous);
	if (!succeeded)
		return false;
	run->calls += stream.count;
	run->events += stream.count;
	run->at_end = stream.at_end;
	run->done = stream.done;
	if (!run->at_end)
		run->done.key = dbopt_log_key_copy(run->log, stream.done.key);
	return true;
}

/* Runs the slice as a whole. */
static bool
run_bulk(Run *run)
{
	DbOptSlice *slice = &run->slice;
	DbOptFailure failure;

	run->calls += slice->count;
	if (!dbopt_delivery_try(run->delivery, &run->call, slice->rows,
							slice->count, false, &failure))
		return false;
	for (int i = 0; i < slice->count; i++)
		dbopt_outcome_success(&run->outcome, &slice->places[i]);
	slice_done(run, slice->count);
	return true;
}

/* Runs one event of the slice, unless its failure is known. */
static bool
run_one(Run *run, int i)
{
	DbOptSlice *slice = &run->slice;
	DbOptFailure failure;

	if (run->suspect != NULL &&
		dbopt_log_same_event(run->log, &slice->places[i], run->suspect))
	{
		dbopt_outcome_failure(&run->outcome, &slice->places[i],
							  &run->commit_failure);
		dbopt_delivery_failed(run->delivery, &run->commit_failure);
		return false;
	}
	run->calls++;
	run->called_alone = true;
	run->called = slice->places[i];
	run->called.key = dbopt_log_key_copy(run->log, run->called.key);
	if (dbopt_delivery_try(run->delivery, &run->call, &slice->rows[i], 1,
						   false, &failure))
	{
		dbopt_outcome_success(&run->outcome, &slice->places[i]);
		return true;
	}
	dbopt_outcome_failure(&run->outcome, &slice->places[i], &failure);
	return false;
}

/* Runs the slice event by event, until the breaker opens. */
static void
run_singly(Run *run)
{
	DbOptSlice *slice = &run->slice;
	int			count = Min(slice->count, slice_limit(run));
	int			failures = 0;
	int			i;

	for (i = 0; i < count; i++)
	{
		if (i > 0 && dbopt_delivery_is_blocked(run->delivery))
			break;
		if (!run_one(run, i))
			failures++;
	}
	slice_done(run, i);
	if (run->mode == RUN_SINGLE && i == count &&
		failures <= count * RARE_FAILURES)
		run->mode = RUN_BULK;
}

/* Reads a slice of an ordered handler and finds out what may run of it. */
static void
judge_slice(Run *run)
{
	const DbOptSlice *slice = &run->slice;

	run->ordered = dbopt_ordered_begin(run->delivery, run->log);
	for (int i = 0; i < slice->count; i++)
	{
		DbOptFailed *event = palloc0(sizeof(DbOptFailed));

		event->position = slice->places[i].position;
		event->key = dbopt_log_key_to_text(run->log, slice->places[i].key);
		event->event_type = run->cursor->event_type;
		event->suspicion = run->chunk.suspicion;
		dbopt_ordered_add(run->ordered, event, slice->rows[i]);
	}
	dbopt_ordered_judge(run->ordered);
}

/*
 * Runs a slice of an ordered handler.  The chunk's bound moves by places in
 * the log and the handler goes by versions, so the slice is settled as a
 * whole: what may not run yet, or not when the breaker has opened, goes to the
 * retry queue untried.
 */
static void
run_in_order(Run *run)
{
	int			tried = 0;
	int			i;

	judge_slice(run);
	while ((i = dbopt_ordered_next(run->ordered)) >= 0)
	{
		if (tried > 0 && dbopt_delivery_is_blocked(run->delivery))
			dbopt_ordered_hold(run->ordered, i);
		else if (dbopt_ordered_may_run(run->ordered, i))
		{
			tried++;
			if (run_one(run, i))
				dbopt_ordered_done(run->ordered, i);
			else
				dbopt_ordered_failed(run->ordered, i,
									 llast(run->outcome.failed));
		}
	}
	slice_done(run, run->slice.count);
}

/* Has the step run what one transaction should? */
static bool
step_is_full(const Run *run)
{
	if (run->at_end || run->delivery->unreported == 0 || run->blocked ||
		run->ordered != NULL)
		return true;
	switch (run->mode)
	{
		case RUN_BULK:
			return false;
		case RUN_SINGLE:
			return run->events >= DBOPT_SINGLE_BATCH;
		case RUN_ISOLATED:
			break;
	}
	return run->events > 0;
}

/* Reads and runs the next slice. */
static void
run_slice(Run *run)
{
	slice_fetch(run);
	if (run->slice.count == 0)
		slice_done(run, 0);
	else if (run->delivery->handler->ordered)
		run_in_order(run);
	else if (run->mode != RUN_BULK || run->slice.count == 1)
		run_singly(run);
	else if (!run_bulk(run))
	{
		run->mode = RUN_SINGLE;
		if (slice_limit(run) > 0)
			run_singly(run);
	}
}

static void
run_events(Run *run)
{
	bool		streams = run->chunk.events > 1 &&
	dbopt_stream_fits(run->delivery->handler);

	while (!step_is_full(run))
	{
		if (!streams || run->mode != RUN_BULK || slice_limit(run) == 1)
			run_slice(run);
		else if (!run_stream(run))
			run->mode = RUN_SINGLE;
		run->blocked = !run->at_end &&
			dbopt_delivery_is_blocked(run->delivery);
	}
}

/* Writes down what has become of the step's events. */
static void
step_settle(Run *run)
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
find_suspect(const Run *run)
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
step_work(Run *run)
{
	const DbOptSource *source = run->delivery->handler->source;

	if (!dbopt_delivery_lock_table(run->delivery))
	{
		run->blocked = true;
		return;
	}
	run->log = dbopt_log_open(source->relid);
	run->log->unprocessed_only = source->mark_processed;
	if (!dbopt_chunk_lock(run->log, run->cursor->cursor_id, run->seq,
						  &run->chunk))
	{
		run->settled = true;
		dbopt_log_close(run->log);
		return;
	}
	run->snapshot = dbopt_snapshot_new();
	run->source.log = run->log;
	run->source.snapshot = run->snapshot;
	run->source.event_type = run->cursor->event_type;
	run->source.chunk = &run->chunk;
	dbopt_outcome_begin(&run->outcome, run->delivery, run->log,
						run->cursor->event_type);
	run->done = run->chunk.from;
	run->delivery->broken = dbopt_call_prepare(&run->call,
											   run->delivery->handler,
											   run->log);
	run->blocked = run->delivery->broken != NULL;
	run_events(run);
	step_settle(run);
	run->suspect = find_suspect(run);
	UnregisterSnapshot(run->snapshot);
	dbopt_log_close(run->log);
}

static void
step_begin(Run *run)
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
step_commit(Run *run)
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

/*
 * One transaction.  A commit that fails without a call of the handler is no
 * event's failure, but the job's.
 */
static void
run_step(Run *run)
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
	if (run->calls == 0)
		dbopt_exec_raise_commit(&run->commit_failure);
	dbopt_delivery_rolled_back(run->delivery);
	run->blocked = false;
	run->mode = RUN_ISOLATED;
}

/* More of the chunk than was admitted is left: asks for the rest. */
static bool
admit_more(Run *run)
{
	if (run->delivery->unreported > 0)
		return true;
	return dbopt_delivery_admit(run->delivery, Max(run->chunk.events, 1));
}

DbOptRunResult
dbopt_run_chunk(DbOptDelivery *delivery, const DbOptCursor *cursor, int64 seq)
{
	Run		   *run = palloc0(sizeof(Run));

	run->delivery = delivery;
	run->cursor = cursor;
	run->seq = seq;
	run->slice_context = AllocSetContextCreate(delivery->context,
											   "dbopt slice",
											   ALLOCSET_DEFAULT_SIZES);
	run->mode = delivery->handler->ordered ||
		dbopt_stats_failure_rate(delivery->slot) > RARE_FAILURES ?
		RUN_SINGLE : RUN_BULK;
	do
	{
		CHECK_FOR_INTERRUPTS();
		run_step(run);
	} while (!run->settled && !run->blocked && admit_more(run));
	MemoryContextDelete(run->slice_context);
	return run->settled ? DBOPT_RUN_SETTLED : DBOPT_RUN_BLOCKED;
}
