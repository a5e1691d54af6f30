/*
 * ordered_rows.c
 *		The rows of dbopt_ordered.
 *
 * Run by pool sessions.  An event's row is written with its first row in the
 * retry queue and goes with its last one, in the same transaction.  All rows
 * of an aggregate are under the lock that ordered.c takes for it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "engine/catalog.h"
#include "engine/ordered_rows.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

static DbOptOrderedRow *
row_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	DbOptOrderedRow *row = palloc0(sizeof(DbOptOrderedRow));
	Datum		values[Natts_ordered];
	bool		nulls[Natts_ordered];

	heap_deform_tuple(tuple, desc, values, nulls);
	row->handler_id = DatumGetInt32(values[Anum_ordered_handler_id - 1]);
	row->position = DatumGetInt64(values[Anum_ordered_log_position - 1]);
	row->key = TextDatumGetCString(values[Anum_ordered_event_key - 1]);
	row->aggregate_type =
		TextDatumGetCString(values[Anum_ordered_aggregate_type - 1]);
	row->aggregate_id =
		TextDatumGetCString(values[Anum_ordered_aggregate_id - 1]);
	row->version = datumCopy(values[Anum_ordered_version - 1], false, -1);
	row->tid = tuple->t_self;
	return row;
}

DbOptOrderedRow *
dbopt_ordered_row_find(int32 handler_id, int64 position, const char *key,
					   Snapshot snapshot)
{
	Relation	rel = dbopt_table_open(DBOPT_ORDERED, AccessShareLock);
	DbOptOrderedRow *row = NULL;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_ordered_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[1], Anum_ordered_log_position, BTEqualStrategyNumber,
				F_INT8EQ, Int64GetDatum(position));
	ScanKeyInit(&keys[2], Anum_ordered_event_key, BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(key));
	scan = systable_beginscan(rel, dbopt_table_index_oid(DBOPT_ORDERED), true,
							  snapshot, lengthof(keys), keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		row = row_from_tuple(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, NoLock);
	return row;
}

List *
dbopt_ordered_rows_lowest(int32 handler_id, const char *aggregate_type,
						  const char *aggregate_id, Snapshot snapshot,
						  int limit)
{
	Relation	rel = dbopt_table_open(DBOPT_ORDERED, AccessShareLock);
	Relation	index = index_open(dbopt_ordered_aggregate_index_oid(),
								   AccessShareLock);
	List	   *rows = NIL;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_ordered_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[1], Anum_ordered_aggregate_type, BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(aggregate_type));
	ScanKeyInit(&keys[2], Anum_ordered_aggregate_id, BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(aggregate_id));
	scan = systable_beginscan_ordered(rel, index, snapshot, lengthof(keys),
									  keys);
	while (list_length(rows) < limit &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan,
															 ForwardScanDirection)))
		rows = lappend(rows, row_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan_ordered(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return rows;
}

void
dbopt_ordered_row_insert(Relation rel, const DbOptOrderedRow *row)
{
	Datum		values[Natts_ordered];
	bool		nulls[Natts_ordered] = {0};
	HeapTuple	tuple;

	values[Anum_ordered_handler_id - 1] = Int32GetDatum(row->handler_id);
	values[Anum_ordered_log_position - 1] = Int64GetDatum(row->position);
	values[Anum_ordered_event_key - 1] = CStringGetTextDatum(row->key);
	values[Anum_ordered_aggregate_type - 1] =
		CStringGetTextDatum(row->aggregate_type);
	values[Anum_ordered_aggregate_id - 1] =
		CStringGetTextDatum(row->aggregate_id);
	values[Anum_ordered_version - 1] = row->version;
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
}

void
dbopt_ordered_row_delete(Relation rel, const ItemPointerData *tid)
{
	CatalogTupleDelete(rel, unconstify(ItemPointerData *, tid));
}
