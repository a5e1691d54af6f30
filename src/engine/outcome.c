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
	dbopt_marks_begin(&outcome->marks, log, delivery);
}

void
dbopt_outcome_success(DbOptOutcome *outcome, const DbOptPlace *place)
{
	if (outcome->log->unprocessed_only)
		dbopt_marks_success(&outcome->marks, place, 1);
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
	dbopt_marks_failure(&outcome->marks, failed);
}

static void
settle_failures(DbOptOutcome *outcome, DbOptOrdered *ordered)
{
	DbOptQueue	queue;
	ListCell   *cell;

	dbopt_queue_open(&queue);
	foreach(cell, outcome->failed)
		dbopt_delivery_settle_failed(outcome->delivery, &queue, lfirst(cell));
	if (ordered != NULL)
		dbopt_ordered_settle(ordered, &queue);
	dbopt_queue_close(&queue);
}

bool
dbopt_outcome_settle(DbOptOutcome *outcome, DbOptOrdered *ordered,
					 DbOptFailure *failure)
{
	if (outcome->failed != NIL || ordered != NULL)
		settle_failures(outcome, ordered);
	return !outcome->log->unprocessed_only ||
		dbopt_marks_write(&outcome->marks,
						  outcome->delivery->handler->timeout, failure);
}
