/*
 * log_scan.c
 *		Walking a log: one type's events in the order of (log_position, key).
 *
 * Run by pool sessions and the scheduler, on a log that is open (log.c).  Each
 * leaf has an index scan of its own; the scan's next event is the lowest of
 * the leaves' present ones.
 *
 * A place behind a key inside a position takes two index scans: the rest of
 * that position, then everything behind it.  That keeps both scans exact,
 * where one over (log_position >= P) would walk a position of a million events
 * from its start for every chunk of it.  The first of them begins at the event
 * in that place and passes over it, so as to notice a second one there.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "engine/log.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define SCAN_KEYS 3

/* Columns of the log index. */
enum
{
	INDEX_EVENT_TYPE = 1,
	INDEX_LOG_POSITION,
	INDEX_KEY
};

typedef struct LeafScan
{
	DbOptLogLeaf *leaf;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Buffer		visibility;
	bool		rest_of_position;	/* still inside from's position */
	bool		at_event;		/* position and key are of an event that has
								 * not been returned yet */
	bool		at_end;
	int64		position;
	Datum		key;
} LeafScan;

struct DbOptLogScan
{
	DbOptLog   *log;
	Datum		event_type;
	DbOptPlace	from;
	DbOptPlace	to;
	DbOptLogWhat what;
	bool		exact;			/* only the event at "from" */
	FmgrInfo   *compare;		/* of keys */
	Oid			collation;
	LeafScan   *returned;		/* whose event the caller has */
	bool		at_from;		/* not behind the place "from" yet */
	int64		passed_over;	/* processed events */
	bool		has_last;		/* the place of the event before: */
	int64		last_position;
	Datum		last_key;		/* in last_buffer, unless by value */
	Size		last_size;		/* of the buffer */
	void	   *last_buffer;
	int			nleaves;
	LeafScan	leaves[FLEXIBLE_ARRAY_MEMBER];
};

static int
compare_keys(const DbOptLogScan *scan, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll(scan->compare, scan->collation,
										   a, b));
}

/* The function of the key's operator ">=" or, with exact, "=". */
static RegProcedure
key_proc(Oid key_type, bool exact)
{
	switch (key_type)
	{
		case UUIDOID:
			return exact ? F_UUID_EQ : F_UUID_GE;
		case INT8OID:
			return exact ? F_INT8EQ : F_INT8GE;
		case INT4OID:
			return exact ? F_INT4EQ : F_INT4GE;
		default:
			return exact ? F_TEXTEQ : F_TEXT_GE;
	}
}

/* Starts, or starts again, the index scan that the leaf's phase calls for. */
static void
leaf_rescan(DbOptLogScan *scan, LeafScan *leaf)
{
	ScanKeyData keys[SCAN_KEYS];
	int64		limit = scan->to.position;

	ScanKeyEntryInitialize(&keys[0], 0, INDEX_EVENT_TYPE,
						   BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, scan->event_type);
	if (leaf->rest_of_position)
	{
		ScanKeyInit(&keys[1], INDEX_LOG_POSITION, BTEqualStrategyNumber,
					F_INT8EQ, Int64GetDatum(scan->from.position));
		ScanKeyEntryInitialize(&keys[2], 0, INDEX_KEY,
							   scan->exact ? BTEqualStrategyNumber :
							   BTGreaterEqualStrategyNumber, InvalidOid,
							   scan->collation,
							   key_proc(scan->log->key_type, scan->exact),
							   scan->from.key);
	}
	else
	{
		ScanKeyInit(&keys[1], INDEX_LOG_POSITION, BTGreaterStrategyNumber,
					F_INT8GT, Int64GetDatum(scan->from.position));
		ScanKeyInit(&keys[2], INDEX_LOG_POSITION, BTLessEqualStrategyNumber,
					F_INT8LE, Int64GetDatum(limit));
	}
	index_rescan(leaf->scan, keys, SCAN_KEYS, NULL, 0);
}

/*
 * The next entry of the leaf's index scan that is wanted; visible ones from
 * the index alone where the visibility map allows and no rows are wanted.
 */
static bool
index_step(DbOptLogScan *scan, LeafScan *leaf)
{
	ItemPointer tid;

	if (scan->what == DBOPT_LOG_ROWS)
		return index_getnext_slot(leaf->scan, ForwardScanDirection,
								  leaf->slot);
	while ((tid = index_getnext_tid(leaf->scan, ForwardScanDirection)) != NULL)
	{
		if (scan->what == DBOPT_LOG_ENTRIES)
			return true;
		if (VM_ALL_VISIBLE(leaf->leaf->rel, ItemPointerGetBlockNumber(tid),
						   &leaf->visibility))
			return true;
		if (index_fetch_heap(leaf->scan, leaf->slot))
			return true;
	}
	return false;
}

/* Is the leaf's present entry behind the end of what is wanted? */
static bool
is_past_end(const DbOptLogScan *scan, const LeafScan *leaf)
{
	if (leaf->position != scan->to.position || scan->to.whole)
		return leaf->position > scan->to.position;
	return compare_keys(scan, leaf->key, scan->to.key) > 0;
}

/* Is the leaf's present row one that the scan passes over? */
static bool
is_passed_over(DbOptLogScan *scan, const LeafScan *leaf)
{
	bool		isnull;
	Datum		processed;

	if (!scan->log->unprocessed_only || leaf->leaf->processed <= 0)
		return false;
	processed = slot_getattr(leaf->slot, leaf->leaf->processed, &isnull);
	if (isnull || !DatumGetBool(processed))
		return false;
	scan->passed_over++;
	return true;
}

/* Brings a leaf to its next event, or to its end. */
static void
leaf_step(DbOptLogScan *scan, LeafScan *leaf)
{
	Datum		values[INDEX_KEY];
	bool		nulls[INDEX_KEY];

	for (;;)
	{
		if (index_step(scan, leaf))
		{
			if (is_passed_over(scan, leaf))
				continue;
			break;
		}
		if (!leaf->rest_of_position || scan->exact)
		{
			leaf->at_end = true;
			return;
		}
		leaf->rest_of_position = false;
		leaf_rescan(scan, leaf);
	}
	index_deform_tuple(leaf->scan->xs_itup,
					   RelationGetDescr(leaf->leaf->index), values, nulls);
	leaf->position = DatumGetInt64(values[INDEX_LOG_POSITION - 1]);
	leaf->key = values[INDEX_KEY - 1];
	leaf->at_event = true;
	if (is_past_end(scan, leaf))
		leaf->at_end = true;
}

static void
leaf_begin(DbOptLogScan *scan, LeafScan *leaf, DbOptLogLeaf *of,
		   Snapshot snapshot)
{
	leaf->leaf = of;
	leaf->slot = table_slot_create(of->rel, NULL);
	leaf->visibility = InvalidBuffer;
	leaf->rest_of_position = !scan->from.whole;
	leaf->scan = dbopt_index_beginscan(of->rel, of->index, snapshot, SCAN_KEYS);
	leaf->scan->xs_want_itup = true;
	leaf_rescan(scan, leaf);
}

static DbOptLogScan *
scan_begin(DbOptLog *log, Snapshot snapshot, const char *event_type,
		   const DbOptPlace *from, const DbOptPlace *to, DbOptLogWhat what,
		   bool exact)
{
	DbOptLogScan *scan = palloc0(offsetof(DbOptLogScan, leaves) +
								 sizeof(LeafScan) * log->nleaves);

	scan->log = log;
	scan->event_type = CStringGetTextDatum(event_type);
	scan->from = *from;
	scan->to = *to;
	scan->what = log->unprocessed_only ? DBOPT_LOG_ROWS : what;
	scan->exact = exact;
	scan->at_from = !from->whole && !exact;
	scan->nleaves = log->nleaves;
	if (log->nleaves > 0)
	{
		Relation	index = log->leaves[0].index;

		scan->compare = index_getprocinfo(index, INDEX_KEY, BTORDER_PROC);
		scan->collation = index->rd_indcollation[INDEX_KEY - 1];
	}
	for (int i = 0; i < log->nleaves; i++)
		leaf_begin(scan, &scan->leaves[i], &log->leaves[i], snapshot);
	return scan;
}

DbOptLogScan *
dbopt_log_scan_begin(DbOptLog *log, Snapshot snapshot, const char *event_type,
					 const DbOptPlace *from, const DbOptPlace *to,
					 DbOptLogWhat what)
{
	DbOptPlace	end = {PG_INT64_MAX, true, (Datum) 0};

	return scan_begin(log, snapshot, event_type, from, to ? to : &end,
					  what, false);
}

DbOptLogScan *
dbopt_log_find_begin(DbOptLog *log, Snapshot snapshot, const char *event_type,
					 const DbOptPlace *place)
{
	Assert(!place->whole);
	return scan_begin(log, snapshot, event_type, place, place,
					  DBOPT_LOG_ROWS, true);
}

static int
compare_places(const DbOptLogScan *scan, const LeafScan *a, const LeafScan *b)
{
	if (a->position != b->position)
		return a->position < b->position ? -1 : 1;
	return compare_keys(scan, a->key, b->key);
}

static void
raise_doubled(const DbOptLogScan *scan, const LeafScan *leaf)
{
	ereport(ERROR,
			(errcode(ERRCODE_CARDINALITY_VIOLATION),
			 errmsg("table \"%s\" has two events with the same key and log position",
					RelationGetRelationName(scan->log->root)),
			 errdetail("The key is %s.",
					   dbopt_log_key_to_text(scan->log, leaf->key)),
			 errhint("Delete one of the rows, or give it another key.")));
}

/* Copies the key to where it outlives the next step. */
static void
remember_key(DbOptLogScan *scan, Datum key)
{
	Size		size;

	if (scan->log->key_by_value)
	{
		scan->last_key = key;
		return;
	}
	size = datumGetSize(key, false, scan->log->key_length);
	if (size > scan->last_size)
	{
		scan->last_buffer = scan->last_buffer == NULL ?
			MemoryContextAlloc(GetMemoryChunkContext(scan), size) :
			repalloc(scan->last_buffer, size);
		scan->last_size = size;
	}
	memcpy(scan->last_buffer, DatumGetPointer(key), size);
	scan->last_key = PointerGetDatum(scan->last_buffer);
}

/*
 * Two events in one place would be taken for one, unless they are only to be
 * counted.  Entries of the index may well be of one and the same event.
 */
static void
check_single(DbOptLogScan *scan, const LeafScan *leaf)
{
	if (scan->what == DBOPT_LOG_ENTRIES || scan->log->doubled_pass)
		return;
	if (scan->has_last && scan->last_position == leaf->position &&
		compare_keys(scan, scan->last_key, leaf->key) == 0)
		raise_doubled(scan, leaf);
	scan->has_last = true;
	scan->last_position = leaf->position;
	remember_key(scan, leaf->key);
}

/* Is the event the one that the scan starts behind? */
static bool
is_at_from(DbOptLogScan *scan, const LeafScan *leaf)
{
	if (scan->at_from)
		scan->at_from = leaf->position == scan->from.position &&
			compare_keys(scan, leaf->key, scan->from.key) == 0;
	return scan->at_from;
}

/* The leaf with the lowest event that has not been returned; NULL: none. */
static LeafScan *
lowest_leaf(DbOptLogScan *scan)
{
	LeafScan   *lowest = NULL;

	if (scan->returned != NULL)
		scan->returned->at_event = false;
	for (int i = 0; i < scan->nleaves; i++)
	{
		LeafScan   *leaf = &scan->leaves[i];

		if (!leaf->at_event && !leaf->at_end)
			leaf_step(scan, leaf);
		if (!leaf->at_end &&
			(lowest == NULL || compare_places(scan, leaf, lowest) < 0))
			lowest = leaf;
	}
	scan->returned = lowest;
	return lowest;
}

bool
dbopt_log_scan_next(DbOptLogScan *scan, DbOptLogEvent *event)
{
	LeafScan   *leaf;

	do
	{
		leaf = lowest_leaf(scan);
		if (leaf == NULL)
			return false;
		check_single(scan, leaf);
	} while (is_at_from(scan, leaf));
	event->position = leaf->position;
	event->key = leaf->key;
	event->leaf = leaf->leaf;
	event->slot = scan->what == DBOPT_LOG_ROWS ? leaf->slot : NULL;
	return true;
}

int64
dbopt_log_scan_passed_over(const DbOptLogScan *scan)
{
	return scan->passed_over;
}

void
dbopt_log_scan_end(DbOptLogScan *scan)
{
	for (int i = 0; i < scan->nleaves; i++)
	{
		LeafScan   *leaf = &scan->leaves[i];

		index_endscan(leaf->scan);
		ExecDropSingleTupleTableSlot(leaf->slot);
		if (BufferIsValid(leaf->visibility))
			ReleaseBuffer(leaf->visibility);
	}
	if (scan->last_buffer != NULL)
		pfree(scan->last_buffer);
	pfree(DatumGetPointer(scan->event_type));
	pfree(scan);
}
