/*
 * chunk.c
 *		Chunks: their rows, and walking over their events.
 *
 * Run by pool sessions.  A chunk is fetched by its known id, never by scanning
 * from the front of the table, where dead rows pile up under a held horizon.
 * Its row lock is what lets only one session run it, and is held to the end of
 * the transaction that settles it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "engine/catalog.h"
#include "engine/chunk.h"
#include "engine/position.h"
#include "engine/progress.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

struct DbOptChunkWalk
{
	DbOptLog   *log;
	Snapshot	snapshot;
	const char *event_type;
	const DbOptChunk *chunk;
	DbOptPlace	from;
	DbOptLogWhat what;
	int			next_position;	/* index in chunk->positions */
	DbOptLogScan *scan;			/* NULL: the next one is to be started */
};

static HeapTuple
chunk_form(const DbOptLog *log, TupleDesc desc, const DbOptChunk *chunk)
{
	Datum		values[Natts_chunk];
	bool		nulls[Natts_chunk] = {0};

	values[Anum_chunk_cursor_id - 1] = Int32GetDatum(chunk->cursor_id);
	values[Anum_chunk_seq - 1] = Int64GetDatum(chunk->seq);
	values[Anum_chunk_from_position - 1] = Int64GetDatum(chunk->from.position);
	values[Anum_chunk_from_key - 1] =
		dbopt_place_key(log, &chunk->from, &nulls[Anum_chunk_from_key - 1]);
	values[Anum_chunk_to_position - 1] = Int64GetDatum(chunk->to.position);
	values[Anum_chunk_to_key - 1] =
		dbopt_place_key(log, &chunk->to, &nulls[Anum_chunk_to_key - 1]);
	values[Anum_chunk_exclude - 1] = dbopt_positions_to_array(chunk->exclude,
															  chunk->nexclude);
	nulls[Anum_chunk_positions - 1] = chunk->npositions == 0;
	values[Anum_chunk_positions - 1] =
		dbopt_positions_to_array(chunk->positions, chunk->npositions);
	values[Anum_chunk_events - 1] = Int32GetDatum(chunk->events);
	values[Anum_chunk_suspicion - 1] = Int32GetDatum(chunk->suspicion);
	values[Anum_chunk_handed_out_at - 1] =
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	return heap_form_tuple(desc, values, nulls);
}

void
dbopt_chunk_insert(const DbOptLog *log, const DbOptChunk *chunk)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, RowExclusiveLock);
	HeapTuple	tuple = chunk_form(log, RelationGetDescr(rel), chunk);

	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

static void
chunk_read(const DbOptLog *log, HeapTuple tuple, TupleDesc desc,
		   DbOptChunk *chunk)
{
	Datum		values[Natts_chunk];
	bool		nulls[Natts_chunk];

	heap_deform_tuple(tuple, desc, values, nulls);
	memset(chunk, 0, sizeof(*chunk));
	chunk->cursor_id = DatumGetInt32(values[Anum_chunk_cursor_id - 1]);
	chunk->seq = DatumGetInt64(values[Anum_chunk_seq - 1]);
	chunk->from = dbopt_place_from(log, values[Anum_chunk_from_position - 1],
								   values[Anum_chunk_from_key - 1],
								   nulls[Anum_chunk_from_key - 1]);
	chunk->to = dbopt_place_from(log, values[Anum_chunk_to_position - 1],
								 values[Anum_chunk_to_key - 1],
								 nulls[Anum_chunk_to_key - 1]);
	chunk->nexclude = dbopt_positions_from_array(values[Anum_chunk_exclude - 1],
												 &chunk->exclude);
	if (!nulls[Anum_chunk_positions - 1])
		chunk->npositions =
			dbopt_positions_from_array(values[Anum_chunk_positions - 1],
									   &chunk->positions);
	chunk->events = DatumGetInt32(values[Anum_chunk_events - 1]);
	chunk->suspicion = DatumGetInt32(values[Anum_chunk_suspicion - 1]);
	chunk->tid = tuple->t_self;
}

/* The scan for one chunk. */
static SysScanDesc
chunk_scan_begin(Relation rel, Snapshot snapshot, int32 cursor_id, int64 seq)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_chunk_cursor_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], Anum_chunk_seq, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(seq));
	return systable_beginscan(rel, dbopt_table_index_oid(DBOPT_CHUNK), true,
							  snapshot, lengthof(keys), keys);
}

int
dbopt_chunk_suspicion(int32 cursor_id, int64 seq)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = chunk_scan_begin(rel, snapshot, cursor_id, seq);
	HeapTuple	tuple = systable_getnext(scan);
	int			suspicion = -1;
	bool		isnull;

	if (HeapTupleIsValid(tuple))
		suspicion = DatumGetInt32(heap_getattr(tuple, Anum_chunk_suspicion,
											   RelationGetDescr(rel),
											   &isnull));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return suspicion;
}

/*
 * Reads and locks in one snapshot: who finds the row changed after it has got
 * the lock leaves it alone, since another session has run it meanwhile.
 */
bool
dbopt_chunk_lock(const DbOptLog *log, int32 cursor_id, int64 seq,
				 DbOptChunk *chunk)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, RowExclusiveLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SysScanDesc scan = chunk_scan_begin(rel, snapshot, cursor_id, seq);
	HeapTuple	tuple;
	TM_FailureData failure;
	bool		locked = false;

	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		locked = table_tuple_lock(rel, &tuple->t_self, snapshot, slot,
								  GetCurrentCommandId(false),
								  LockTupleExclusive, LockWaitSkip, 0,
								  &failure) == TM_Ok;
	if (locked)
		chunk_read(log, tuple, RelationGetDescr(rel), chunk);
	systable_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return locked;
}

List *
dbopt_chunks_of_cursor(const DbOptLog *log, int32 cursor_id,
					   Snapshot snapshot)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, AccessShareLock);
	SysScanDesc scan = dbopt_chunks_scan(rel, cursor_id, snapshot);
	List	   *chunks = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		DbOptChunk *chunk = palloc(sizeof(DbOptChunk));

		chunk_read(log, tuple, RelationGetDescr(rel), chunk);
		chunks = lappend(chunks, chunk);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return chunks;
}

void
dbopt_chunk_advance(const DbOptLog *log, DbOptChunk *chunk,
					const DbOptPlace *done)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, RowExclusiveLock);
	HeapTuple	tuple;

	chunk->from = *done;
	tuple = chunk_form(log, RelationGetDescr(rel), chunk);
	CatalogTupleUpdate(rel, &chunk->tid, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

void
dbopt_chunk_delete(const DbOptChunk *chunk)
{
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, RowExclusiveLock);

	CatalogTupleDelete(rel, unconstify(ItemPointerData *, &chunk->tid));
	table_close(rel, NoLock);
}

DbOptChunkWalk *
dbopt_chunk_walk_begin(DbOptLog *log, Snapshot snapshot,
					   const char *event_type, const DbOptChunk *chunk,
					   const DbOptPlace *from, DbOptLogWhat what)
{
	DbOptChunkWalk *walk = palloc0(sizeof(DbOptChunkWalk));

	walk->log = log;
	walk->snapshot = snapshot;
	walk->event_type = event_type;
	walk->chunk = chunk;
	walk->from = *from;
	walk->what = what;
	if (chunk->npositions == 0)
		walk->scan = dbopt_log_scan_begin(log, snapshot, event_type, from,
										  &chunk->to, what);
	return walk;
}

/* Starts the scan of the next position; false: there is none. */
static bool
next_position(DbOptChunkWalk *walk)
{
	const DbOptChunk *chunk = walk->chunk;

	while (walk->next_position < chunk->npositions)
	{
		int64		position = chunk->positions[walk->next_position++];
		DbOptPlace	from = {position - 1, true, (Datum) 0};
		DbOptPlace	to = {position, true, (Datum) 0};

		if (position < walk->from.position ||
			(position == walk->from.position && walk->from.whole))
			continue;
		if (position == walk->from.position)
			from = walk->from;
		if (position == chunk->to.position)
			to = chunk->to;
		walk->scan = dbopt_log_scan_begin(walk->log, walk->snapshot,
										  walk->event_type, &from, &to,
										  walk->what);
		return true;
	}
	return false;
}

bool
dbopt_chunk_walk_next(DbOptChunkWalk *walk, DbOptLogEvent *event)
{
	const DbOptChunk *chunk = walk->chunk;

	for (;;)
	{
		if (walk->scan == NULL && !next_position(walk))
			return false;
		while (dbopt_log_scan_next(walk->scan, event))
			if (!dbopt_position_in(event->position, chunk->exclude,
								   chunk->nexclude))
				return true;
		if (chunk->npositions == 0)
			return false;
		dbopt_log_scan_end(walk->scan);
		walk->scan = NULL;
	}
}

void
dbopt_chunk_walk_end(DbOptChunkWalk *walk)
{
	if (walk->scan != NULL)
		dbopt_log_scan_end(walk->scan);
	pfree(walk);
}
