/*
 * retry_events.c
 *		Calling the handler for claimed retries, in one transaction.
 *
 * Run by pool sessions.  Each event runs in a subtransaction; its row is
 * deleted, moved on, or becomes a dead letter.
 *
 * A queued event whose row is gone from the events table, or has another
 * identity by now, is dropped: there is nothing to deliver.
 */
#include "postgres.h"

#include "engine/ordered.h"
#include "engine/retry_events.h"
#include "engine/suspect.h"
#include "state/departure.h"
#include "utils/snapmgr.h"

/* Reads a queued event's row; false: it is gone, or done with otherwise. */
static bool
fetch_row(DbOptRetryBatch *batch, const DbOptFailed *failed, Datum *row)
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
settle_success(DbOptRetryBatch *batch, const DbOptFailed *failed)
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
attempts_made(const DbOptRetryBatch *batch, const DbOptFailed *failed)
{
	if (batch->attempt == NULL || !batch->attempt->crashed ||
		failed->suspicion == DBOPT_SUSPECT_KILLER)
		return 1;
	return 1 + failed->suspicion;
}

static void
settle_failure(DbOptRetryBatch *batch, DbOptFailed *failed)
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
failure_is_known(DbOptRetryBatch *batch, DbOptFailed *failed)
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
retry_row(DbOptRetryBatch *batch, DbOptFailed *failed, Datum row)
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
retry_event(DbOptRetryBatch *batch, DbOptFailed *failed)
{
	Datum		row;

	if (fetch_row(batch, failed, &row))
		(void) retry_row(batch, failed, row);
	else
		dbopt_queue_remove(&batch->queue, failed);
}

bool
dbopt_retry_goes_on(DbOptRetryBatch *batch, int count)
{
	batch->blocked = count > 0 && dbopt_delivery_is_blocked(batch->delivery);
	return !batch->blocked;
}

static void
add_in_order(DbOptRetryBatch *batch, DbOptOrdered *ordered, List *claimed, Datum *rows)
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
gather_in_order(DbOptRetryBatch *batch, DbOptOrdered *ordered, List *claimed,
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
retry_in_order(DbOptRetryBatch *batch, List *claimed)
{
	DbOptOrdered *ordered = dbopt_ordered_begin(batch->delivery, batch->log);
	Datum	   *rows = palloc0(sizeof(Datum) * Max(batch->limit, 1));
	int			count = 0;
	int			i;

	claimed = gather_in_order(batch, ordered, claimed, rows);
	batch->claimed = list_length(claimed);
	dbopt_ordered_judge(ordered);
	while (dbopt_retry_goes_on(batch, count++) && (i = dbopt_ordered_next(ordered)) >= 0)
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

/* As run_events.c does: the handler may have updated events of the batch. */
static bool
renew_snapshot(DbOptRetryBatch *batch)
{
	return !batch->log->unprocessed_only || batch->calls == 0 ||
		dbopt_log_snapshot_renew(batch->log, &batch->snapshot);
}

void
dbopt_retry_claimed(DbOptRetryBatch *batch, List *claimed)
{
	ListCell   *cell;

	if (batch->delivery->handler->ordered && claimed != NIL)
	{
		retry_in_order(batch, claimed);
		return;
	}
	foreach(cell, claimed)
	{
		DbOptFailed *failed = lfirst(cell);

		if (!dbopt_retry_goes_on(batch, foreach_current_index(cell)))
			break;
		if (!renew_snapshot(batch))
		{
			batch->last_due = failed->retry_at; /* the next batch is from here */
			break;
		}
		retry_event(batch, failed);
	}
}
