/*
 * cursor.c
 *		Cursors and their versions.
 *
 * The lists are read by the scheduler, versions are read and replaced by pool
 * sessions and by backends that replay.  The order of locks
 * is: events table, cursor; then the snapshot.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/sequence.h"
#include "engine/catalog.h"
#include "engine/cursor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static DbOptCursor *
cursor_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	Datum		values[Natts_cursor];
	bool		nulls[Natts_cursor];
	DbOptCursor *cursor = palloc(sizeof(DbOptCursor));

	heap_deform_tuple(tuple, desc, values, nulls);
	cursor->cursor_id = DatumGetInt32(values[Anum_cursor_id - 1]);
	cursor->source_id = DatumGetInt32(values[Anum_cursor_source_id - 1]);
	cursor->handler_id = DatumGetInt32(values[Anum_cursor_handler_id - 1]);
	cursor->event_type = TextDatumGetCString(values[Anum_cursor_event_type - 1]);
	return cursor;
}

List *
dbopt_cursors_load(void)
{
	Relation	rel = dbopt_table_open(DBOPT_CURSOR, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	List	   *cursors = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		cursors = lappend(cursors,
						  cursor_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return cursors;
}

static int
compare_cursors(const ListCell *a, const ListCell *b)
{
	const DbOptCursor *one = lfirst(a);
	const DbOptCursor *other = lfirst(b);

	if (one->source_id != other->source_id)
		return one->source_id < other->source_id ? -1 : 1;
	return one->cursor_id < other->cursor_id ? -1 : 1;
}

List *
dbopt_cursors_by_source(void)
{
	List	   *cursors = dbopt_cursors_load();

	list_sort(cursors, compare_cursors);
	return cursors;
}

/* NULL: there is no such cursor any more. */
DbOptCursor *
dbopt_cursor_load(int32 cursor_id)
{
	Relation	rel = dbopt_table_open(DBOPT_CURSOR, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	DbOptCursor *cursor = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_cursor_id, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(cursor_id));
	scan = systable_beginscan(rel, dbopt_table_index_oid(DBOPT_CURSOR), true,
							  snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		cursor = cursor_from_tuple(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return cursor;
}

DbOptHandler *
dbopt_cursor_handler(const DbOptConfig *config, const DbOptCursor *cursor)
{
	DbOptSource *source = dbopt_config_source(config, cursor->source_id);
	DbOptHandler *handler;

	if (cursor->handler_id == 0)
		return source == NULL ? NULL :
			dbopt_config_most_specific(config, source, cursor->event_type);
	handler = dbopt_config_handler(config, cursor->handler_id);
	return handler != NULL &&
		dbopt_pattern_match(handler->event_type, cursor->event_type) >= 0 ?
		handler : NULL;
}

int32
dbopt_cursor_find(int32 source_id, int32 handler_id, const char *event_type,
				  Snapshot snapshot)
{
	Relation	rel = dbopt_table_open(DBOPT_CURSOR, AccessShareLock);
	int32		cursor_id = 0;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&keys[0], Anum_cursor_source_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(source_id));
	ScanKeyInit(&keys[1], Anum_cursor_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[2], Anum_cursor_event_type, BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(event_type));
	scan = systable_beginscan(rel, dbopt_cursor_identity_index_oid(), true,
							  snapshot, lengthof(keys), keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		cursor_id = DatumGetInt32(heap_getattr(tuple, Anum_cursor_id,
											   RelationGetDescr(rel),
											   &isnull));
	systable_endscan(scan);
	table_close(rel, NoLock);
	return cursor_id;
}

Datum
dbopt_place_key(const DbOptLog *log, const DbOptPlace *place, bool *isnull)
{
	*isnull = place->whole;
	return place->whole ? (Datum) 0 :
		CStringGetTextDatum(dbopt_log_key_to_text(log, place->key));
}

DbOptPlace
dbopt_place_from(const DbOptLog *log, Datum position, Datum key, bool key_is_null)
{
	DbOptPlace	place = {DatumGetInt64(position), key_is_null, (Datum) 0};

	if (!key_is_null)
		place.key = dbopt_log_key_from_text(log, TextDatumGetCString(key));
	return place;
}

void
dbopt_version_insert(Relation rel, const DbOptLog *log, const DbOptVersion *version)
{
	Datum		values[Natts_version] = {0};
	bool		nulls[Natts_version] = {0};
	HeapTuple	tuple;

	values[Anum_version_cursor_id - 1] = Int32GetDatum(version->cursor_id);
	values[Anum_version_seq - 1] = Int64GetDatum(version->seq);
	values[Anum_version_last_position - 1] =
		Int64GetDatum(version->last.position);
	values[Anum_version_last_key - 1] =
		dbopt_place_key(log, &version->last, &nulls[Anum_version_last_key - 1]);
	values[Anum_version_holes - 1] =
		dbopt_positions_to_array(version->holes, version->nholes);
	nulls[Anum_version_hole_position - 1] = !version->has_partial;
	nulls[Anum_version_hole_key - 1] = true;
	if (version->has_partial)
	{
		values[Anum_version_hole_position - 1] =
			Int64GetDatum(version->partial.position);
		values[Anum_version_hole_key - 1] =
			dbopt_place_key(log, &version->partial,
							&nulls[Anum_version_hole_key - 1]);
	}
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
}

void
dbopt_version_replace(const DbOptLog *log, const DbOptVersion *previous,
					  const DbOptVersion *next)
{
	Relation	rel = dbopt_table_open(DBOPT_CURSOR_VERSION, RowExclusiveLock);

	Assert(next->seq == previous->seq + 1);
	CatalogTupleDelete(rel, unconstify(ItemPointerData *, &previous->tid));
	dbopt_version_insert(rel, log, next);
	table_close(rel, NoLock);
}

static void
version_from_tuple(const DbOptLog *log, HeapTuple tuple, TupleDesc desc,
				   DbOptVersion *version)
{
	Datum		values[Natts_version];
	bool		nulls[Natts_version];

	heap_deform_tuple(tuple, desc, values, nulls);
	version->cursor_id = DatumGetInt32(values[Anum_version_cursor_id - 1]);
	version->seq = DatumGetInt64(values[Anum_version_seq - 1]);
	version->tid = tuple->t_self;
	version->last = dbopt_place_from(log, values[Anum_version_last_position - 1],
									 values[Anum_version_last_key - 1],
									 nulls[Anum_version_last_key - 1]);
	version->nholes =
		dbopt_positions_from_array(values[Anum_version_holes - 1],
								   &version->holes);
	version->has_partial = !nulls[Anum_version_hole_position - 1];
	if (version->has_partial)
		version->partial =
			dbopt_place_from(log, values[Anum_version_hole_position - 1],
							 values[Anum_version_hole_key - 1],
							 nulls[Anum_version_hole_key - 1]);
}

/* A scan that is under way, and what is to be closed after it. */
typedef struct VersionScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
} VersionScan;

/*
 * Reads from the highest seq down: under a horizon held back by a long
 * transaction, dead versions pile up in front of the live one.
 */
static HeapTuple
version_scan_begin(VersionScan *scan, int32 cursor_id, Snapshot snapshot)
{
	ScanKeyData key;

	scan->rel = dbopt_table_open(DBOPT_CURSOR_VERSION, AccessShareLock);
	scan->index = index_open(dbopt_table_index_oid(DBOPT_CURSOR_VERSION),
							 AccessShareLock);
	ScanKeyInit(&key, Anum_version_cursor_id, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(cursor_id));
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, snapshot,
											1, &key);
	return systable_getnext_ordered(scan->scan, BackwardScanDirection);
}

static void
version_scan_end(VersionScan *scan)
{
	systable_endscan_ordered(scan->scan);
	index_close(scan->index, NoLock);
	table_close(scan->rel, NoLock);
}

bool
dbopt_version_read(const DbOptLog *log, int32 cursor_id, Snapshot snapshot,
				   DbOptVersion *version)
{
	VersionScan scan;
	HeapTuple	tuple = version_scan_begin(&scan, cursor_id, snapshot);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
		version_from_tuple(log, tuple, RelationGetDescr(scan.rel), version);
	version_scan_end(&scan);
	return found;
}

bool
dbopt_version_peek(int32 cursor_id, Snapshot snapshot, int64 *seq,
				   int64 *last_position)
{
	VersionScan scan;
	HeapTuple	tuple = version_scan_begin(&scan, cursor_id, snapshot);
	bool		found = HeapTupleIsValid(tuple);

	if (found)
	{
		TupleDesc	desc = RelationGetDescr(scan.rel);
		bool		isnull;

		*seq = DatumGetInt64(heap_getattr(tuple, Anum_version_seq, desc,
										  &isnull));
		*last_position =
			DatumGetInt64(heap_getattr(tuple, Anum_version_last_position,
									   desc, &isnull));
	}
	version_scan_end(&scan);
	return found;
}

void
dbopt_cursor_lock(int32 cursor_id)
{
	LockDatabaseObject(dbopt_table_oid(DBOPT_CURSOR), cursor_id, 0,
					   ExclusiveLock);
}
