/*
 * progress.c
 *		What is stored of how far all cursors have come.
 *
 * Run by whoever looks at all of it: the scheduler, and backends that report
 * or wait.  Takes ACCESS SHARE on our tables.
 *
 * While a long transaction holds the horizon back, each hand-out leaves a dead
 * version and a dead chunk that no vacuum removes.  What is alive is therefore
 * looked for by the index, cursor by cursor, unless the table is so small that
 * to read all of it is less.  Versions are read from the highest seq down.
 * Chunks are read from a floor up that this process remembers: a chunk is
 * inserted with the version of the same seq, in one transaction, and versions
 * only go up, so that once a snapshot has shown a version and the chunks that
 * are alive, none will ever come below them.  So each dead row is passed once
 * by each process, and not at each look.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/progress.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define FLOORS_AT_START	64

typedef struct Floor
{
	int32		cursor_id;		/* key */
	int64		seq;
} Floor;

static HTAB *floors = NULL;
static Oid	floors_of = InvalidOid; /* the table */

/* ---- floors -------------------------------------------------------------- */

void
dbopt_chunks_floors_forget(void)
{
	if (floors != NULL)
		hash_destroy(floors);
	floors = NULL;
}

static int64
chunks_floor(int32 cursor_id)
{
	Floor	   *entry;

	if (floors == NULL || floors_of != dbopt_table_oid(DBOPT_CHUNK))
		return PG_INT64_MIN;
	entry = hash_search(floors, &cursor_id, HASH_FIND, NULL);
	return entry == NULL ? PG_INT64_MIN : entry->seq;
}

/* Not while the rows of a restored database may be on their way. */
void
dbopt_chunks_floor_raise(int32 cursor_id, int64 seq)
{
	Oid			table = dbopt_table_oid(DBOPT_CHUNK);
	Floor	   *entry;

	if (dbopt_positions_foreign())
		return;
	if (floors_of != table)
		dbopt_chunks_floors_forget();
	if (floors == NULL)
	{
		HASHCTL		info = {
			.keysize = sizeof(int32),
			.entrysize = sizeof(Floor)
		};

		floors = hash_create("dbopt floors", FLOORS_AT_START, &info,
							 HASH_ELEM | HASH_BLOBS);
	}
	floors_of = table;
	entry = hash_search(floors, &cursor_id, HASH_ENTER, NULL);
	entry->seq = seq;
}

/* Of cursors that are gone, too, but not of ever more of them. */
void
dbopt_chunks_floors_limit(int cursors)
{
	if (floors != NULL && hash_get_num_entries(floors) / 2 > cursors)
		dbopt_chunks_floors_forget();
}

/* ---- chunks -------------------------------------------------------------- */

static DbOptChunkId *
chunk_id(HeapTuple tuple, TupleDesc desc)
{
	DbOptChunkId *id = palloc(sizeof(DbOptChunkId));
	Datum		values[Natts_chunk];
	bool		nulls[Natts_chunk];

	heap_deform_tuple(tuple, desc, values, nulls);
	id->cursor_id = DatumGetInt32(values[Anum_chunk_cursor_id - 1]);
	id->seq = DatumGetInt64(values[Anum_chunk_seq - 1]);
	id->suspicion = DatumGetInt32(values[Anum_chunk_suspicion - 1]);
	id->to_position = DatumGetInt64(values[Anum_chunk_to_position - 1]);
	id->handed_out_at =
		DatumGetTimestampTz(values[Anum_chunk_handed_out_at - 1]);
	return id;
}

static List *
load_all(Relation rel, Snapshot snapshot)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	List	   *chunks = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		chunks = lappend(chunks, chunk_id(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	return chunks;
}

SysScanDesc
dbopt_chunks_scan(Relation rel, int32 cursor_id, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_chunk_cursor_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], Anum_chunk_seq, BTGreaterEqualStrategyNumber,
				F_INT8GE, Int64GetDatum(chunks_floor(cursor_id)));
	return systable_beginscan(rel, dbopt_table_index_oid(DBOPT_CHUNK), true,
							  snapshot, lengthof(keys), keys);
}

static List *
load_of_cursor(Relation rel, Snapshot snapshot, int32 cursor_id, List *chunks)
{
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		position;
	int64		floor;

	if (!dbopt_version_peek(cursor_id, snapshot, &floor, &position))
		return chunks;
	floor++;
	scan = dbopt_chunks_scan(rel, cursor_id, snapshot);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		DbOptChunkId *id = chunk_id(tuple, RelationGetDescr(rel));

		floor = Min(floor, id->seq);
		chunks = lappend(chunks, id);
	}
	systable_endscan(scan);
	/* What the own transaction has changed may yet be rolled back. */
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		dbopt_chunks_floor_raise(cursor_id, floor);
	return chunks;
}

/* Does it take less to read all of the table than to ask for each cursor? */
static bool
is_small(Relation rel, List *cursors)
{
	return RelationGetNumberOfBlocks(rel) <= list_length(cursors);
}

List *
dbopt_chunks_load(void)
{
	List	   *cursors = dbopt_cursors_load();
	Relation	rel = dbopt_table_open(DBOPT_CHUNK, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	List	   *chunks = NIL;
	ListCell   *cell;

	dbopt_chunks_floors_limit(list_length(cursors));
	if (is_small(rel, cursors))
		chunks = load_all(rel, snapshot);
	else
		foreach(cell, cursors)
			chunks = load_of_cursor(rel, snapshot,
									((DbOptCursor *) lfirst(cell))->cursor_id,
									chunks);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return chunks;
}

/* ---- positions ----------------------------------------------------------- */

static int64
highest_of_all(Relation rel, Snapshot snapshot)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	int64		highest = -1;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		position = heap_getattr(tuple, Anum_version_last_position,
											RelationGetDescr(rel), &isnull);

		highest = Max(highest, DatumGetInt64(position));
	}
	systable_endscan(scan);
	return highest;
}

int64
dbopt_positions_highest(void)
{
	List	   *cursors = dbopt_cursors_load();
	Relation	rel = dbopt_table_open(DBOPT_CURSOR_VERSION, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	int64		highest = -1;
	ListCell   *cell;

	if (is_small(rel, cursors))
		highest = highest_of_all(rel, snapshot);
	else
		foreach(cell, cursors)
	{
		int64		seq;
		int64		position;

		if (dbopt_version_peek(((DbOptCursor *) lfirst(cell))->cursor_id,
							   snapshot, &seq, &position))
			highest = Max(highest, position);
	}
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return highest;
}
