/*
 * run_events.c
 *		Calling the handler for the events of a chunk, in one transaction.
 *
 * Run by pool sessions.
 *
 * In bulk, slices of the chunk run in a subtransaction each.  A slice of more
 * than one event that fails runs again event by event, so that one bad event
 * costs only itself; such a step ends after DBOPT_SINGLE_BATCH events, since
 * PostgreSQL caches 64 subtransaction ids of a backend and more slow down every
 * snapshot.
 */
#include "postgres.h"

#include "engine/run_step.h"
#include "engine/stream.h"
#include "state/departure.h"
#include "utils/memutils.h"

/* How many events the next slice may have. */
static int
slice_limit(const DbOptRun *run)
{
	int			limit = Min(DBOPT_SLICE_EVENTS, run->delivery->unreported);

	switch (run->mode)
	{
		case DBOPT_RUN_BULK:
			return limit;
		case DBOPT_RUN_SINGLE:
			return Min(limit, DBOPT_SINGLE_BATCH - run->events);
		case DBOPT_RUN_ISOLATED:
			break;
	}
	return 1;
}

/*
 * Handlers of the same transaction may have updated events that are to be
 * locked next: they are found by a snapshot that sees that.  False: it would
 * see partitions, too, that the step has not opened; the next step does.
 */
static bool
renew_snapshot(DbOptRun *run)
{
	if (!run->log->unprocessed_only || run->calls == 0)
		return true;
	if (!dbopt_log_snapshot_renew(run->log, &run->snapshot))
		return false;
	run->source.snapshot = run->snapshot;
	return true;
}

/* Reads the next events of the chunk into memory. */
static void
slice_fetch(DbOptRun *run)
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
slice_done(DbOptRun *run, int count)
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
run_stream(DbOptRun *run)
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
run_bulk(DbOptRun *run)
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

/*
 * Is it known already how the event fails?  Says so before the first call of
 * the transaction, else notes what that is for.
 */
static bool
failure_is_known(DbOptRun *run, const DbOptPlace *place,
				 DbOptFailure *failure)
{
	char	   *key;

	if (run->suspect != NULL &&
		dbopt_log_same_event(run->log, place, run->suspect))
	{
		*failure = run->commit_failure;
		return true;
	}
	if (run->calls > 0)
		return false;
	key = dbopt_log_key_to_text(run->log, place->key);
	if (dbopt_delivery_departed(run->delivery, place->position, key, failure))
		return true;
	dbopt_departure_calling_for(place->position, key);
	return false;
}

/* Runs one event of the slice, unless its failure is known. */
static bool
run_one(DbOptRun *run, int i)
{
	DbOptSlice *slice = &run->slice;
	DbOptPlace *place = &slice->places[i];
	DbOptFailure failure;

	if (failure_is_known(run, place, &failure))
	{
		dbopt_outcome_failure(&run->outcome, place, &failure);
		dbopt_delivery_failed(run->delivery, &failure);
		return false;
	}
	run->calls++;
	run->called_alone = true;
	run->called = *place;
	run->called.key = dbopt_log_key_copy(run->log, run->called.key);
	if (dbopt_delivery_try(run->delivery, &run->call, &slice->rows[i], 1,
						   false, &failure))
	{
		dbopt_outcome_success(&run->outcome, place);
		return true;
	}
	dbopt_outcome_failure(&run->outcome, place, &failure);
	return false;
}

/* Runs the slice event by event, until the breaker opens. */
static void
run_singly(DbOptRun *run)
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
	if (run->mode == DBOPT_RUN_SINGLE && i == count &&
		failures <= count * DBOPT_RARE_FAILURES)
		run->mode = DBOPT_RUN_BULK;
}

/* Reads a slice of an ordered handler and finds out what may run of it. */
static void
judge_slice(DbOptRun *run)
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
run_in_order(DbOptRun *run)
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
step_is_full(const DbOptRun *run)
{
	if (run->at_end || run->delivery->unreported == 0 || run->blocked ||
		run->ordered != NULL)
		return true;
	switch (run->mode)
	{
		case DBOPT_RUN_BULK:
			return false;
		case DBOPT_RUN_SINGLE:
			return run->events >= DBOPT_SINGLE_BATCH;
		case DBOPT_RUN_ISOLATED:
			break;
	}
	return run->events > 0;
}

/* Reads and runs the next slice. */
static void
run_slice(DbOptRun *run)
{
	slice_fetch(run);
	if (run->slice.count == 0)
		slice_done(run, 0);
	else if (run->delivery->handler->ordered)
		run_in_order(run);
	else if (run->mode != DBOPT_RUN_BULK || run->slice.count == 1)
		run_singly(run);
	else if (!run_bulk(run))
	{
		run->mode = DBOPT_RUN_SINGLE;
		if (slice_limit(run) > 0)
			run_singly(run);
	}
}

void
dbopt_run_events(DbOptRun *run)
{
	bool		streams = run->chunk.events > 1 &&
	dbopt_stream_fits(run->delivery->handler);

	while (!step_is_full(run) && renew_snapshot(run))
	{
		if (!streams || run->mode != DBOPT_RUN_BULK || slice_limit(run) == 1)
			run_slice(run);
		else if (!run_stream(run))
			run->mode = DBOPT_RUN_SINGLE;
		run->blocked = !run->at_end &&
			dbopt_delivery_is_blocked(run->delivery);
	}
}
