/*
 * retry.c
 *		Running the due retries of a handler.
 *
 * Run by pool sessions, as the handler's role.  A batch is one transaction:
 * lock the events table, claim due rows of the retry queue, take a new
 * snapshot, run each event in a subtransaction; delete its row, move it on or
 * make it a dead letter; mark events as processed; commit.  When one of the
 * last two fails, as many events run again one a transaction.  One that was alone in a transaction whose commit
 * failed has failed: another transaction claims just this event again and
 * writes that down, unless another session has run it between the two.
 *
 * A queued event whose row is gone from the events table, or has another
 * identity by now, is dropped: there is nothing to deliver.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/mark.h"
#include "engine/ordered.h"
#include "engine/retry.h"
#include "engine/session.h"
#include "engine/suspect.h"
#include "state/departure.h"
#include "state/stats.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef struct Batch
{
	DbOptDelivery *delivery;
	TimestampTz since;
	TimestampTz now;
	int			limit;
	bool		blocked;
	const DbOptFailed *suspect; /* the only event of a transaction whose
								 * commit failed: to be written down; NULL */
	DbOptFailure commit_failure;
	const DbOptAttempt *attempt;	/* suspects of a crash; NULL */
	const DbOptFailure *crash;	/* of the attempt's event; NULL */

	/* Of the present transaction. */
	int			claimed;
	TimestampTz last_due;		/* of what was claimed */
	int			calls;
	DbOptFailed called;			/* the last of them, as it was claimed */
	DbOptLog   *log;
	Snapshot	snapshot;
	DbOptCall	call;
	DbOptQueue	queue;
	DbOptMarks	marks;
	bool		unsettled;		/* events could not be marked: that is
								 * commit_failure, too */
} Batch;

/* Reads a queued event's row; false: it is gone, or done with otherwise. */
static bool
fetch_row(Batch *batch, const DbOptFailed *failed, Datum *row)
{
	DbOptPlace	place = {failed->position, false, (Datum) 0};
	DbOptLogScan *scan;
	DbOptLogEvent event;
	bool		found;

	place.key = dbopt_log_key_from_text(batch->log, failed->key);
	scan = dbopt_log_find_begin(batch->log, batch->snapshot,
								failed->event_type, &place);
	found = dbopt_log_scan_next(scan, &event) &&
		(!batch->log->unprocessed_only ||
		 dbopt_mark_lock(batch->log, batch->snapshot, &event));
	if (found)
		*row = dbopt_log_event_row(batch->log, &event);
	dbopt_log_scan_end(scan);
	return found;
}

static void
settle_success(Batch *batch, const DbOptFailed *failed)
{
	DbOptPlace	place = {failed->position, false, (Datum) 0};

	dbopt_queue_remove(&batch->queue, failed);
	place.key = dbopt_log_key_from_text(batch->log, failed->key);
	dbopt_marks_success(&batch->marks, &place, failed->attempts + 1);
}

/*
 * One; but an event that has crashed the server alone for the first time did
 * so before, in the crashes that made it a suspect.
 */
static int
attempts_made(const Batch *batch, const DbOptFailed *failed)
{
	if (batch->attempt == NULL || !batch->attempt->crashed ||
		failed->suspicion == DBOPT_SUSPECT_KILLER)
		return 1;
	return 1 + failed->suspicion;
}

static void
settle_failure(Batch *batch, DbOptFailed *failed)
{
	failed->attempts += attempts_made(batch, failed);
	if (batch->attempt != NULL && batch->attempt->crashed)
		failed->suspicion = DBOPT_SUSPECT_KILLER;
	else if (failed->suspicion != DBOPT_SUSPECT_KILLER)
		failed->suspicion = 0;
	dbopt_delivery_settle_failed(batch->delivery, &batch->queue, failed);
	dbopt_marks_failure(&batch->marks, failed);
}

/*
 * Is it known already how the event fails?  What is to be written down is
 * claimed alone; the first call of a transaction is noted.
 */
static bool
failure_is_known(Batch *batch, DbOptFailed *failed)
{
	const DbOptFailure *known = batch->suspect != NULL ?
	&batch->commit_failure : batch->crash;

	if (known != NULL)
	{
		failed->failure = *known;
		return true;
	}
	if (batch->calls > 0)
		return false;
	if (dbopt_delivery_departed(batch->delivery, failed->position,
								failed->key, &failed->failure))
		return true;
	dbopt_departure_calling_for(failed->position, failed->key);
	return false;
}

/*
 * Runs a retry whose row is there; false: it has failed again.  One that was
 * held back before its first attempt is no retry.
 */
static bool
retry_row(Batch *batch, DbOptFailed *failed, Datum row)
{
	bool		is_retry = !failed->untried;

	if (failure_is_known(batch, failed))
	{
		dbopt_delivery_failed(batch->delivery, &failed->failure);
		batch->delivery->tally.counters.retries += is_retry ? 1 : 0;
		settle_failure(batch, failed);
		return false;
	}
	batch->calls++;
	batch->called = *failed;
	if (dbopt_delivery_try(batch->delivery, &batch->call, &row, 1, is_retry,
						   &failed->failure))
	{
		settle_success(batch, failed);
		return true;
	}
	settle_failure(batch, failed);
	return false;
}

static void
retry_event(Batch *batch, DbOptFailed *failed)
{
	Datum		row;

	if (fetch_row(batch, failed, &row))
		(void) retry_row(batch, failed, row);
	else
		dbopt_queue_remove(&batch->queue, failed);
}

/* May another event of the batch run, after so many? */
static bool
goes_on(Batch *batch, int count)
{
	batch->blocked = count > 0 && dbopt_delivery_is_blocked(batch->delivery);
	return !batch->blocked;
}

static void
add_in_order(Batch *batch, DbOptOrdered *ordered, List *claimed, Datum *rows)
{
	ListCell   *cell;

	foreach(cell, claimed)
	{
		Datum	   *row = &rows[foreach_current_index(cell)];

		(void) fetch_row(batch, lfirst(cell), row);
		dbopt_ordered_add(ordered, lfirst(cell), *row);
	}
}

/*
 * Adds the claimed retries of an ordered handler, and those that follow them
 * unless the transaction is for certain ones; all of them.
 */
static List *
gather_in_order(Batch *batch, DbOptOrdered *ordered, List *claimed,
				Datum *rows)
{
	int			count = list_length(claimed);
	List	   *followers;

	add_in_order(batch, ordered, claimed, rows);
	if (batch->suspect != NULL || batch->attempt != NULL ||
		count >= batch->limit)
		return claimed;
	followers = dbopt_ordered_claim_followers(ordered, &batch->queue,
											  batch->now,
											  batch->limit - count);
	/* Their events may have been committed after the snapshot. */
	UnregisterSnapshot(batch->snapshot);
	batch->snapshot = dbopt_log_snapshot_again(batch->log);
	add_in_order(batch, ordered, followers, rows + count);
	return list_concat(claimed, followers);
}

/* Runs the retries of an ordered handler, those whose turn it is. */
static void
retry_in_order(Batch *batch, List *claimed)
{
	DbOptOrdered *ordered = dbopt_ordered_begin(batch->delivery, batch->log);
	Datum	   *rows = palloc0(sizeof(Datum) * Max(batch->limit, 1));
	int			count = 0;
	int			i;

	claimed = gather_in_order(batch, ordered, claimed, rows);
	batch->claimed = list_length(claimed);
	dbopt_ordered_judge(ordered);
	while (goes_on(batch, count++) && (i = dbopt_ordered_next(ordered)) >= 0)
	{
		DbOptFailed *failed = list_nth(claimed, i);

		if (rows[i] == (Datum) 0)
		{
			dbopt_queue_remove(&batch->queue, failed);
			dbopt_ordered_done(ordered, i);
		}
		else if (!dbopt_ordered_may_run(ordered, i))
			continue;
		else if (retry_row(batch, failed, rows[i]))
			dbopt_ordered_done(ordered, i);
		else
			dbopt_ordered_failed(ordered, i, failed);
	}
	dbopt_ordered_settle(ordered, &batch->queue);
}

static void
retry_claimed(Batch *batch, List *claimed)
{
	ListCell   *cell;

	if (batch->delivery->handler->ordered && claimed != NIL)
	{
		retry_in_order(batch, claimed);
		return;
	}
	foreach(cell, claimed)
	{
		if (!goes_on(batch, foreach_current_index(cell)))
			break;
		retry_event(batch, lfirst(cell));
	}
}

/* Locks what is to be run. */
static List *
claim(Batch *batch)
{
	const DbOptAttempt *attempt = batch->attempt;
	int32		handler_id = batch->delivery->handler->handler_id;
	DbOptFailed *again;

	if (batch->suspect != NULL)
	{
		again = dbopt_queue_claim_again(&batch->queue, handler_id,
										batch->suspect);
		return again == NULL ? NIL : list_make1(again);
	}
	if (attempt == NULL)
		return dbopt_queue_claim(&batch->queue, handler_id, 0, batch->since,
								 batch->now, batch->limit);
	if (!dbopt_attempt_holds(attempt))
		return NIL;
	if (attempt->key != NULL)
		return dbopt_queue_claim_event(&batch->queue, handler_id,
									   attempt->position, attempt->key);
	return dbopt_queue_claim(&batch->queue, handler_id,
							 DBOPT_SUSPECT_GROUP, DT_NOBEGIN, batch->now,
							 batch->limit);
}

/* Claims and runs, in the batch's transaction. */
static void
batch_work(Batch *batch)
{
	DbOptDelivery *delivery = batch->delivery;
	const DbOptSource *source = delivery->handler->source;
	List	   *claimed;

	batch->calls = batch->claimed = 0;
	batch->unsettled = false;
	batch->blocked = !dbopt_delivery_lock_table(delivery);
	if (batch->blocked)
		return;
	batch->log = dbopt_log_open(source->relid);
	batch->log->unprocessed_only = source->mark_processed;
	delivery->broken = dbopt_call_prepare(&batch->call, delivery->handler,
										  batch->log);
	batch->blocked = delivery->broken != NULL;
	dbopt_queue_open(&batch->queue);
	claimed = batch->blocked ? NIL : claim(batch);
	delivery->skipped = batch->queue.skipped;
	batch->claimed = list_length(claimed);
	if (claimed != NIL)
		batch->last_due = ((DbOptFailed *) llast(claimed))->retry_at;
	batch->snapshot = dbopt_log_snapshot(&batch->log);
	dbopt_marks_begin(&batch->marks, batch->log);
	retry_claimed(batch, claimed);
	batch->unsettled = source->mark_processed &&
		!dbopt_marks_write(&batch->marks, delivery->handler->timeout,
						   &batch->commit_failure);
	if (batch->attempt != NULL)
		dbopt_attempt_end(batch->attempt);
	UnregisterSnapshot(batch->snapshot);
	dbopt_queue_close(&batch->queue);
	dbopt_log_close(batch->log);
}

/* Who is to blame if the commit fails; NULL: nobody alone. */
static const DbOptFailed *
find_suspect(const Batch *batch)
{
	MemoryContext previous;
	DbOptFailed *suspect;

	if (batch->calls != 1)
		return NULL;
	previous = MemoryContextSwitchTo(batch->delivery->context);
	suspect = palloc(sizeof(DbOptFailed));
	*suspect = batch->called;
	suspect->key = pstrdup(batch->called.key);
	MemoryContextSwitchTo(previous);
	return suspect;
}

/* Ends the transaction; false: it was rolled back, and commit_failure says why. */
static bool
batch_commit(Batch *batch)
{
	MemoryContext context = batch->delivery->context;
	int64		timeout = batch->calls > 0 ?
	batch->delivery->handler->timeout : 0;
	DbOptFailure failure;

	if (batch->unsettled)
		dbopt_exec_roll_back(context, &batch->commit_failure);
	else if (dbopt_exec_commit(context, DBOPT_COMMIT_ASYNC, timeout,
							   &failure))
		return true;
	else
		batch->commit_failure = failure;
	dbopt_delivery_name_timeout(batch->delivery, &batch->commit_failure);
	return false;
}

/*
 * Runs the batch's transaction; false: its commit failed.  Without a call of
 * the handler that is no event's failure, but the job's.
 */
static bool
batch_run(Batch *batch)
{
	dbopt_delivery_begin(batch->delivery);
	dbopt_exec_begin();
	dbopt_session_reset_settings();
	batch_work(batch);
	batch->suspect = find_suspect(batch);
	if (batch_commit(batch))
	{
		dbopt_delivery_committed(batch->delivery);
		batch->suspect = NULL;
		return true;
	}
	if (batch->calls == 0)
		dbopt_exec_raise_commit(&batch->commit_failure);
	dbopt_delivery_rolled_back(batch->delivery);
	return false;
}

static DbOptRetryResult
batch_result(const Batch *batch)
{
	if (batch->blocked)
		return DBOPT_RETRY_BLOCKED;
	return batch->claimed == 0 ? DBOPT_RETRY_NONE : DBOPT_RETRY_SOME;
}

/*
 * A handler's own chunk size bounds what shares a transaction here, too: one
 * with effects outside has chunks of a single event.  One that has ended its
 * session has its events one by one until it is known at which.
 */
static int
batch_limit(const DbOptDelivery *delivery)
{
	int			limit = Min(DBOPT_SINGLE_BATCH, delivery->unreported);

	if (dbopt_departure_is_recent(delivery->slot))
		return 1;
	if (delivery->handler->chunk_size > 0)
		limit = Min(limit, delivery->handler->chunk_size);
	return limit;
}

/* Runs so many events one a transaction, and charges those that fail at it. */
static DbOptRetryResult
run_isolated(Batch *batch, int count)
{
	batch->limit = 1;
	while (batch->suspect != NULL ||
		   (count > 0 && !batch->blocked && batch->claimed > 0 &&
			batch->delivery->unreported > 0 && goes_on(batch, 1)))
	{
		if (batch->suspect == NULL)
			count--;
		batch->now = GetCurrentTimestamp(); /* what the last one has released */
		(void) batch_run(batch);
	}
	return batch->blocked ? DBOPT_RETRY_BLOCKED : DBOPT_RETRY_SOME;
}

/*
 * The next batch of the job need not pass the dead entries of this one again.
 * What is queued in front of its start meanwhile is announced by who commits
 * it, and gets a job of its own.
 */
DbOptRetryResult
dbopt_retry_batch(DbOptDelivery *delivery, TimestampTz *since)
{
	Batch		batch = {0};
	DbOptRetryResult result;

	batch.delivery = delivery;
	batch.since = *since;
	batch.now = GetCurrentTimestamp();
	batch.limit = batch_limit(delivery);
	if (!batch_run(&batch))
		return run_isolated(&batch, batch.claimed);
	result = batch_result(&batch);
	if (result == DBOPT_RETRY_SOME)
		*since = Max(*since, batch.last_due);
	return result;
}

DbOptRetryResult
dbopt_retry_suspects(DbOptDelivery *delivery, const DbOptAttempt *attempt,
					 const DbOptFailure *crash)
{
	Batch		batch = {0};

	batch.delivery = delivery;
	batch.now = GetCurrentTimestamp();
	batch.limit = attempt->key != NULL ? 1 : batch_limit(delivery);
	batch.attempt = attempt;
	batch.crash = crash;
	if (!batch_run(&batch))
		return run_isolated(&batch, batch.claimed);
	return batch_result(&batch);
}
