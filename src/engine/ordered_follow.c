/*
 * ordered_follow.c
 *		The order of an aggregate's events: those that follow a due one.
 *
 * Run by pool sessions.  Of an aggregate's events that are held back only the
 * lowest becomes due.  The session that claims it takes the next ones along, as
 * many as fit into its transaction, and runs them one after the other.  They
 * are locked as other claims are, and judged with the rest: whether they may
 * run is decided there.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/ordered.h"
#include "utils/snapmgr.h"

/* The next events of one aggregate, up to one that has to wait. */
static List *
claim_of_aggregate(DbOptOrdered *ordered, DbOptQueue *queue,
				   const DbOptAggregate *aggregate, Snapshot snapshot,
				   TimestampTz now, int limit)
{
	int32		handler_id = ordered->delivery->handler->handler_id;
	List	   *claimed = NIL;
	ListCell   *cell;

	foreach(cell, dbopt_ordered_rows_lowest(handler_id, aggregate->type,
											aggregate->id, snapshot,
											aggregate->events + limit))
	{
		DbOptOrderedRow *row = lfirst(cell);
		DbOptFailed *next;

		if (dbopt_ordered_is_own(ordered, row->position, row->key))
			continue;
		next = list_length(claimed) == limit ? NULL :
			dbopt_queue_claim_held(queue, handler_id, row->position, row->key,
								   now);
		if (next == NULL)
			break;
		claimed = lappend(claimed, next);
	}
	return claimed;
}

List *
dbopt_ordered_claim_followers(DbOptOrdered *ordered, DbOptQueue *queue,
							  TimestampTz now, int limit)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	List	   *claimed = NIL;
	ListCell   *cell;

	foreach(cell, ordered->aggregates)
	{
		if (list_length(claimed) >= limit)
			break;
		claimed = list_concat(claimed,
							  claim_of_aggregate(ordered, queue, lfirst(cell),
												 snapshot, now,
												 limit - list_length(claimed)));
	}
	UnregisterSnapshot(snapshot);
	return claimed;
}
