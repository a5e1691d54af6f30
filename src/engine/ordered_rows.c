/*
 * ordered_rows.c
 *		The rows of dbopt_ordered.
 *
 * Run by pool sessions.  An event's row is written with its first row in the
 * retry queue and goes with its last one, in the same transaction.  All rows
 * of an aggregate are under the lock that ordered.c takes for it.
 *
 * Names of aggregates and versions may be longer than an index entry can be.
 * So the index has a hash of the one and the other as a rounded number: never
 * in another order, but several may be the same.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "common/hashfn.h"
#include "engine/catalog.h"
#include "engine/ordered.h"
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

static int64
aggregate_hash(const char *type, const char *id)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) type,
										   strlen(type), 0);

	return (int64) hash_bytes_extended((const unsigned char *) id, strlen(id),
									   hash);
}

static Datum
version_order(Datum version)
{
	return DirectFunctionCall1(numeric_float8_no_overflow, version);
}

static int
compare_versions(const ListCell *a, const ListCell *b)
{
	return dbopt_version_compare(((DbOptOrderedRow *) lfirst(a))->version,
								 ((DbOptOrderedRow *) lfirst(b))->version);
}

/* Is there enough, also of those that the index takes for the same version? */
static bool
is_enough(const List *rows, int limit, const DbOptOrderedRow *next)
{
	const DbOptOrderedRow *last;

	if (list_length(rows) < limit)
		return false;
	last = llast(rows);
	return DatumGetFloat8(version_order(last->version)) !=
		DatumGetFloat8(version_order(next->version));
}

/* The first "limit" rows of the scan that are of this aggregate, and more. */
static List *
read_aggregate(SysScanDesc scan, TupleDesc desc, const char *type,
			   const char *id, int limit)
{
	List	   *rows = NIL;
	HeapTuple	tuple;

	Assert(limit > 0);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan,
															 ForwardScanDirection)))
	{
		DbOptOrderedRow *row = row_from_tuple(tuple, desc);

		if (strcmp(row->aggregate_type, type) != 0 ||
			strcmp(row->aggregate_id, id) != 0)
			continue;
		if (is_enough(rows, limit, row))
			break;
		rows = lappend(rows, row);
	}
	return rows;
}

List *
dbopt_ordered_rows_lowest(int32 handler_id, const char *aggregate_type,
						  const char *aggregate_id, Snapshot snapshot,
						  int limit)
{
	Relation	rel = dbopt_table_open(DBOPT_ORDERED, AccessShareLock);
	Relation	index = index_open(dbopt_ordered_aggregate_index_oid(),
								   AccessShareLock);
	List	   *rows;
	ScanKeyData keys[2];
	SysScanDesc scan;

	ScanKeyInit(&keys[0], Anum_ordered_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[1], Anum_ordered_aggregate_hash, BTEqualStrategyNumber,
				F_INT8EQ, Int64GetDatum(aggregate_hash(aggregate_type,
													   aggregate_id)));
	scan = systable_beginscan_ordered(rel, index, snapshot, lengthof(keys),
									  keys);
	rows = read_aggregate(scan, RelationGetDescr(rel), aggregate_type,
						  aggregate_id, limit);
	systable_endscan_ordered(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	list_sort(rows, compare_versions);
	return list_truncate(rows, limit);
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
	values[Anum_ordered_aggregate_hash - 1] =
		Int64GetDatum(aggregate_hash(row->aggregate_type, row->aggregate_id));
	values[Anum_ordered_version_order - 1] = version_order(row->version);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
}

void
dbopt_ordered_row_delete(Relation rel, const ItemPointerData *tid)
{
	CatalogTupleDelete(rel, unconstify(ItemPointerData *, tid));
}
