/*
 * outcome.c
 *		What has become of the events of a chunk that one transaction has run.
 *
 * Run by pool sessions.  Results are noted as they come, and written down at
 * the end of the transaction.
 */
#include "postgres.h"

#include "engine/outcome.h"
#include "utils/timestamp.h"

void
dbopt_outcome_begin(DbOptOutcome *outcome, DbOptDelivery *delivery,
					DbOptLog *log, char *event_type)
{
	memset(outcome, 0, sizeof(*outcome));
	outcome->delivery = delivery;
	outcome->log = log;
	outcome->event_type = event_type;
}

void
dbopt_outcome_success(DbOptOutcome *outcome, const DbOptPlace *place)
{
	if (outcome->log->unprocessed_only)
		dbopt_marks_add(&outcome->marks, outcome->log, place);
}

void
dbopt_outcome_failure(DbOptOutcome *outcome, const DbOptPlace *place,
					  const DbOptFailure *failure)
{
	DbOptFailed *failed = palloc0(sizeof(DbOptFailed));

	failed->position = place->position;
	failed->key = dbopt_log_key_to_text(outcome->log, place->key);
	failed->event_type = outcome->event_type;
	failed->attempts = 1;
	failed->retry_at = DT_NOEND;	/* decided when it is written down */
	failed->failure = *failure;
	outcome->failed = lappend(outcome->failed, failed);
}

void
dbopt_outcome_settle(DbOptOutcome *outcome, DbOptOrdered *ordered)
{
	DbOptLog   *log = outcome->log;
	DbOptQueue	queue;
	ListCell   *cell;

	dbopt_mark_processed(log, &outcome->marks, 1);
	if (outcome->failed == NIL && ordered == NULL)
		return;
	dbopt_queue_open(&queue);
	foreach(cell, outcome->failed)
	{
		DbOptFailed *failed = lfirst(cell);

		dbopt_delivery_settle_failed(outcome->delivery, &queue, failed);
		if (log->unprocessed_only)
			dbopt_mark_failed(log, failed);
	}
	if (ordered != NULL)
		dbopt_ordered_settle(ordered, &queue);
	dbopt_queue_close(&queue);
}
