/*
 * ordered.c
 *		The order of an aggregate's events: who may run.
 *
 * Run by pool sessions.  A log position says when an event's transaction
 * began, not in which order the application made it: a transaction that began
 * early can write version 2 of an aggregate after version 1 has committed at a
 * higher position.  So an ordered handler goes by aggregate_version.  An event
 * runs only if
 *
 * (a) no lower version of its aggregate is in dbopt_ordered, which has the
 *	   events that have been handed out and are in the retry queue, because
 *	   they failed or were held back; and
 *
 * (b) its predecessor, the visible event of the same aggregate and handler
 *	   with the next lower version, has been handed out and does not run
 *	   elsewhere (predecessor.c).
 *
 * The predecessor alone suffices, since an application that numbers versions
 * makes one after the other (under a lock on the aggregate, or by a unique
 * key): when one is visible, all lower ones are.  When the predecessor was
 * run, its own predecessor had been delivered or given up, and so on down.
 *
 * A lock for each aggregate and handler, held to the end of the transaction,
 * makes sure that nobody else runs one of its events meanwhile.  The order of
 * locks is: handler and events table, chunk or retries (all skip what others
 * hold), rows of events, dbopt_ordered, aggregates by hash; then the snapshot
 * that all this is read with.  Whoever makes the handler an unordered one has
 * it locked, and releases what is held back.
 *
 * Always true: of the events of an aggregate in dbopt_ordered the lowest has a
 * time at which it is tried, so that none waits for ever; the others may have
 * none.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "engine/catalog.h"
#include "engine/ordered.h"
#include "engine/own_locks.h"
#include "engine/predecessor.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

int
dbopt_version_compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}

DbOptOrdered *
dbopt_ordered_begin(DbOptDelivery *delivery, DbOptLog *log)
{
	DbOptOrdered *ordered = palloc0(sizeof(DbOptOrdered));
	const char *problem;

	ordered->delivery = delivery;
	ordered->log = log;
	ordered->rel = dbopt_table_open(DBOPT_ORDERED, RowExclusiveLock);
	problem = dbopt_aggregate_columns_find(log->root, &ordered->columns);
	if (problem != NULL)
		elog(ERROR, "%s", problem);
	ordered->size = DBOPT_SINGLE_BATCH;
	ordered->events = palloc0(sizeof(DbOptOrderedEvent) * ordered->size);
	return ordered;
}

static char *
value_text(const DbOptOrdered *ordered, const DbOptOrderedEvent *event,
		   DbOptAggregateColumn column)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(ordered->columns.types[column], &output, &is_varlena);
	return OidOutputFunctionCall(output, event->values[column]);
}

/* A version as a numeric, whatever type the table has. */
static Datum
version_numeric(const DbOptOrdered *ordered, Datum value)
{
	switch (ordered->columns.types[DBOPT_AGGREGATE_VERSION])
	{
		case INT2OID:
			return NumericGetDatum(int64_to_numeric(DatumGetInt16(value)));
		case INT4OID:
			return NumericGetDatum(int64_to_numeric(DatumGetInt32(value)));
		case INT8OID:
			return NumericGetDatum(int64_to_numeric(DatumGetInt64(value)));
		default:
			return PointerGetDatum(PG_DETOAST_DATUM(value));
	}
}

/* The aggregate of this name, made when it is new. */
static DbOptAggregate *
aggregate_of(DbOptOrdered *ordered, char *type, char *id)
{
	uint32		hash = hash_combine(string_hash(type, strlen(type) + 1),
									string_hash(id, strlen(id) + 1));
	DbOptAggregate *aggregate;
	ListCell   *cell;

	foreach(cell, ordered->aggregates)
	{
		aggregate = lfirst(cell);
		if (aggregate->hash == hash && strcmp(aggregate->id, id) == 0 &&
			strcmp(aggregate->type, type) == 0)
			return aggregate;
	}
	aggregate = palloc0(sizeof(DbOptAggregate));
	aggregate->type = type;
	aggregate->id = id;
	aggregate->hash = hash;
	aggregate->first = ordered->count - 1;
	ordered->aggregates = lappend(ordered->aggregates, aggregate);
	return aggregate;
}

/* Reads the three columns; false: one is null. */
static bool
read_values(const DbOptOrdered *ordered, DbOptOrderedEvent *event, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple = {0};
	bool		isnull = false;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	for (int i = 0; i < DBOPT_AGGREGATE_COLUMNS && !isnull; i++)
		event->values[i] = heap_getattr(&tuple, ordered->columns.numbers[i],
										RelationGetDescr(ordered->log->root),
										&isnull);
	return !isnull;
}

/*
 * A queued event goes by what was written down of it, which its row may not
 * tell any more.
 */
static void
find_aggregate(DbOptOrdered *ordered, DbOptOrderedEvent *event)
{
	if (event->row != NULL)
	{
		event->aggregate = aggregate_of(ordered, event->row->aggregate_type,
										event->row->aggregate_id);
		event->version = event->row->version;
	}
	else if (event->has_row)
	{
		event->aggregate =
			aggregate_of(ordered,
						 value_text(ordered, event, DBOPT_AGGREGATE_TYPE),
						 value_text(ordered, event, DBOPT_AGGREGATE_ID));
		event->version =
			version_numeric(ordered, event->values[DBOPT_AGGREGATE_VERSION]);
	}
	if (event->aggregate != NULL)
		event->aggregate->events++;
}

void
dbopt_ordered_add(DbOptOrdered *ordered, DbOptFailed *failed, Datum row)
{
	DbOptOrderedEvent *event;
	Snapshot	snapshot;

	if (ordered->count == ordered->size)
	{
		ordered->size *= 2;
		ordered->events = repalloc(ordered->events,
								   sizeof(DbOptOrderedEvent) * ordered->size);
	}
	event = &ordered->events[ordered->count++];
	memset(event, 0, sizeof(*event));
	event->event = failed;
	event->has_row = row != (Datum) 0 && read_values(ordered, event, row);
	if (failed->queued)
	{
		snapshot = dbopt_snapshot_new();
		event->row =
			dbopt_ordered_row_find(ordered->delivery->handler->handler_id,
								   failed->position, failed->key, snapshot);
		UnregisterSnapshot(snapshot);
	}
	find_aggregate(ordered, event);
}

static int
compare_hashes(const ListCell *a, const ListCell *b)
{
	const DbOptAggregate *left = lfirst(a);
	const DbOptAggregate *right = lfirst(b);

	return left->hash < right->hash ? -1 : left->hash > right->hash;
}

/* In the order of their hashes, so that no two sessions wait in a circle. */
static void
lock_aggregates(DbOptOrdered *ordered)
{
	ListCell   *cell;

	list_sort(ordered->aggregates, compare_hashes);
	foreach(cell, ordered->aggregates)
	{
		DbOptAggregate *aggregate = lfirst(cell);

		dbopt_aggregate_lock(ordered->delivery->handler->handler_id,
							 aggregate->hash);
	}
}

bool
dbopt_ordered_is_own(const DbOptOrdered *ordered, int64 position,
					 const char *key)
{
	for (int i = 0; i < ordered->count; i++)
		if (ordered->events[i].event->position == position &&
			strcmp(ordered->events[i].event->key, key) == 0)
			return true;
	return false;
}

static void
find_other(DbOptOrdered *ordered, DbOptAggregate *aggregate)
{
	List	   *rows =
	dbopt_ordered_rows_lowest(ordered->delivery->handler->handler_id,
							  aggregate->type, aggregate->id,
							  ordered->snapshot, aggregate->events + 1);
	ListCell   *cell;

	foreach(cell, rows)
	{
		DbOptOrderedRow *row = lfirst(cell);

		if (dbopt_ordered_is_own(ordered, row->position, row->key))
			continue;
		aggregate->other = row;
		return;
	}
}

/* Where an event's aggregate comes among the others. */
static int
place_of_aggregate(const DbOptOrdered *ordered, int i)
{
	const DbOptAggregate *aggregate = ordered->events[i].aggregate;

	return aggregate != NULL ? aggregate->first : i;
}

/* By aggregate, then by version, then as they were added. */
static int
compare_events(const void *a, const void *b, void *arg)
{
	const DbOptOrdered *ordered = arg;
	int			left = *(const int *) a;
	int			right = *(const int *) b;
	int			order = place_of_aggregate(ordered, left) -
	place_of_aggregate(ordered, right);

	if (order == 0 && ordered->events[left].aggregate != NULL)
		order = dbopt_version_compare(ordered->events[left].version,
									  ordered->events[right].version);
	return order != 0 ? order : left - right;
}

void
dbopt_ordered_judge(DbOptOrdered *ordered)
{
	ListCell   *cell;

	lock_aggregates(ordered);
	ordered->snapshot = dbopt_log_snapshot_again(ordered->log);
	foreach(cell, ordered->aggregates)
		find_other(ordered, lfirst(cell));
	ordered->order = palloc(sizeof(int) * Max(ordered->count, 1));
	for (int i = 0; i < ordered->count; i++)
		ordered->order[i] = i;
	qsort_arg(ordered->order, ordered->count, sizeof(int), compare_events,
			  ordered);
	dbopt_predecessors_find(ordered);
}

int
dbopt_ordered_next(DbOptOrdered *ordered)
{
	return ordered->at < ordered->count ? ordered->order[ordered->at++] : -1;
}
