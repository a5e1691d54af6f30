/*
 * retry.c
 *		Running the due retries of a handler, in batches.
 *
 * Run by pool sessions, as the handler's role.  A batch is one transaction:
 * lock the events table, claim due rows of the retry queue, take a new
 * snapshot, run the events (retry_events.c), mark them as processed, commit.
 * When one of the last two fails, as many events run again one a transaction.
 * One that was alone in a transaction whose commit failed has failed: another
 * transaction claims just this event again and writes that down, unless another
 * session has run it between the two.
 */
#include "postgres.h"

#include "engine/retry.h"
#include "engine/retry_events.h"
#include "engine/session.h"
#include "engine/suspect.h"
#include "state/departure.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Locks what is to be run. */
static List *
claim(DbOptRetryBatch *batch)
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
batch_work(DbOptRetryBatch *batch)
{
	DbOptDelivery *delivery = batch->delivery;
	const DbOptSource *source = delivery->handler->source;
	List	   *claimed;

	batch->calls = batch->claimed = 0;
	batch->unsettled = false;
	batch->blocked = !dbopt_delivery_lock_table(delivery);
	if (batch->blocked)
		return;
	batch->log = dbopt_log_open_source(source);
	dbopt_delivery_prepare(delivery, &batch->call, batch->log);
	batch->blocked = delivery->broken != NULL;
	dbopt_queue_open(&batch->queue);
	claimed = batch->blocked ? NIL : claim(batch);
	delivery->skipped = batch->queue.skipped;
	batch->claimed = list_length(claimed);
	if (claimed != NIL)
		batch->last_due = ((DbOptFailed *) llast(claimed))->retry_at;
	batch->snapshot = dbopt_log_snapshot(&batch->log);
	dbopt_marks_begin(&batch->marks, batch->log, delivery);
	dbopt_retry_claimed(batch, claimed);
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
find_suspect(const DbOptRetryBatch *batch)
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
batch_commit(DbOptRetryBatch *batch)
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

/* Runs the batch's transaction; false: its commit failed. */
static bool
batch_run(DbOptRetryBatch *batch)
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
	dbopt_delivery_commit_failed(batch->delivery, batch->calls,
								 &batch->commit_failure);
	return false;
}

static DbOptRetryResult
batch_result(const DbOptRetryBatch *batch)
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
run_isolated(DbOptRetryBatch *batch, int count)
{
	batch->limit = 1;
	while (batch->suspect != NULL ||
		   (count > 0 && !batch->blocked && batch->claimed > 0 &&
			batch->delivery->unreported > 0 &&
			dbopt_retry_goes_on(batch, 1)))
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
	DbOptRetryBatch batch = {0};
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
	DbOptRetryBatch batch = {0};

	batch.delivery = delivery;
	batch.now = GetCurrentTimestamp();
	batch.limit = attempt->key != NULL ? 1 : batch_limit(delivery);
	batch.attempt = attempt;
	batch.crash = crash;
	if (!batch_run(&batch))
		return run_isolated(&batch, batch.claimed);
	return batch_result(&batch);
}
