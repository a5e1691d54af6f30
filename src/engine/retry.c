/*
 * retry.c
 *		Running the due retries of a handler.
 *
 * Run by pool sessions, as the handler's role.  A batch is one transaction:
 * lock the events table, claim due rows of the retry queue, take a new
 * snapshot, run each event in a subtransaction; delete its row, move it on or
 * make it a dead letter; commit.  When the commit fails, the batch runs again
 * one event a transaction, and a commit that fails then is that event's
 * failure.
 *
 * A queued event whose row is gone from the events table, or has another
 * identity by now, is dropped: there is nothing to deliver.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/mark.h"
#include "engine/ordered.h"
#include "engine/retry.h"
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
	int			claimed;
	TimestampTz last_due;		/* of what was claimed */
	const DbOptFailure *commit_failure; /* of the one event claimed; NULL */

	DbOptLog   *log;
	Snapshot	snapshot;
	DbOptCall	call;
	DbOptQueue	queue;
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
	Datum		key;

	dbopt_queue_remove(&batch->queue, failed);
	if (!batch->log->unprocessed_only)
		return;
	key = dbopt_log_key_from_text(batch->log, failed->key);
	dbopt_mark_processed(batch->log, &key, 1, failed->attempts + 1);
}

static void
settle_failure(Batch *batch, DbOptFailed *failed)
{
	failed->attempts++;
	dbopt_delivery_settle_failed(batch->delivery, &batch->queue, failed);
	if (batch->log->unprocessed_only)
		dbopt_mark_failed(batch->log, failed);
}

/*
 * Runs a retry whose row is there; false: it has failed again.  One that was
 * held back before its first attempt is no retry.
 */
static bool
retry_row(Batch *batch, DbOptFailed *failed, Datum row)
{
	bool		is_retry = !failed->untried;

	if (batch->commit_failure != NULL)
	{
		failed->failure = *batch->commit_failure;
		dbopt_delivery_failed(batch->delivery, &failed->failure);
		batch->delivery->tally.counters.retries += is_retry ? 1 : 0;
	}
	else if (dbopt_delivery_try(batch->delivery, &batch->call, &row, 1,
								is_retry, &failed->failure))
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

/* Runs the retries of an ordered handler, those whose turn it is. */
static void
retry_in_order(Batch *batch, List *claimed)
{
	DbOptOrdered *ordered = dbopt_ordered_begin(batch->delivery, batch->log);
	Datum	   *rows = palloc0(sizeof(Datum) * (list_length(claimed) + 1));
	ListCell   *cell;
	int			count = 0;
	int			i;

	foreach(cell, claimed)
	{
		i = foreach_current_index(cell);
		(void) fetch_row(batch, lfirst(cell), &rows[i]);
		dbopt_ordered_add(ordered, lfirst(cell), rows[i]);
	}
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

/* Claims and runs, in the batch's transaction. */
static void
batch_work(Batch *batch)
{
	DbOptDelivery *delivery = batch->delivery;
	const DbOptSource *source = delivery->handler->source;
	List	   *claimed;

	batch->log = dbopt_log_open(source->relid);
	batch->log->unprocessed_only = source->mark_processed;
	delivery->broken = dbopt_call_prepare(&batch->call, delivery->handler,
										  batch->log);
	batch->blocked = delivery->broken != NULL;
	dbopt_queue_open(&batch->queue);
	claimed = batch->blocked ? NIL :
		dbopt_queue_claim(&batch->queue, delivery->handler->handler_id,
						  batch->since, batch->now, batch->limit);
	batch->claimed = list_length(claimed);
	if (claimed != NIL)
		batch->last_due = ((DbOptFailed *) llast(claimed))->retry_at;
	batch->snapshot = dbopt_snapshot_new();
	retry_claimed(batch, claimed);
	UnregisterSnapshot(batch->snapshot);
	dbopt_queue_close(&batch->queue);
	dbopt_log_close(batch->log);
}

/* Runs the batch's transaction; false: its commit failed. */
static bool
batch_run(Batch *batch, DbOptFailure *failure)
{
	dbopt_delivery_begin(batch->delivery);
	dbopt_exec_begin();
	batch_work(batch);
	if (!dbopt_exec_commit(batch->delivery->context, DBOPT_COMMIT_ASYNC,
						   failure))
	{
		dbopt_delivery_rolled_back(batch->delivery);
		return false;
	}
	dbopt_delivery_committed(batch->delivery);
	return true;
}

/*
 * The next batch of the job need not pass the dead entries of this one again.
 * What is queued in front of its start meanwhile is announced by who commits
 * it, and gets a job of its own.
 */
static DbOptRetryResult
batch_result(const Batch *batch, TimestampTz *since)
{
	if (batch->blocked)
		return DBOPT_RETRY_BLOCKED;
	if (batch->claimed == 0)
		return DBOPT_RETRY_NONE;
	*since = Max(*since, batch->last_due);
	return DBOPT_RETRY_SOME;
}

/*
 * A handler's own chunk size bounds what shares a transaction here, too: one
 * with effects outside has chunks of a single event.
 */
static int
batch_limit(const DbOptDelivery *delivery)
{
	int			limit = Min(DBOPT_SINGLE_BATCH, delivery->unreported);

	if (delivery->handler->chunk_size > 0)
		limit = Min(limit, delivery->handler->chunk_size);
	return limit;
}

DbOptRetryResult
dbopt_retry_batch(DbOptDelivery *delivery, TimestampTz *since)
{
	Batch		batch = {0};
	DbOptFailure failure;

	batch.delivery = delivery;
	batch.since = *since;
	batch.now = GetCurrentTimestamp();
	batch.limit = batch_limit(delivery);
	if (batch_run(&batch, &failure))
		return batch_result(&batch, since);

	batch.limit = 1;
	if (batch_run(&batch, &failure))
		return batch_result(&batch, since);
	batch.commit_failure = &failure;
	if (!batch_run(&batch, &failure))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not write down a failed retry: %s",
						failure.message)));
	return batch_result(&batch, since);
}
