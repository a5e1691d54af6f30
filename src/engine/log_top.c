/*
 * log_top.c
 *		The highest position of a log.
 *
 * Run by backends that take over a restored or copied database, on a log that
 * is open (log.c).  The index is walked from its end, from one event type to
 * the one before it: the last entry of each has its highest position.  Entries
 * of dead rows count, too, since it is a bound that is looked for; no row is
 * read.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/itup.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/log_top.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of the log index. */
#define INDEX_EVENT_TYPE	1
#define INDEX_LOG_POSITION	2

/* How far the walk has come. */
typedef struct TopWalk
{
	Relation	index;
	IndexScanDesc scan;
	bool		begun;
	bool		type_is_null;	/* nulls are at the end */
	Datum		type;			/* of the last entry seen */
	int64		position;
} TopWalk;

/* Goes back to the last entry of the event type before; false: none. */
static bool
walk_back(TopWalk *walk)
{
	ScanKeyData key;
	bool		isnull;

	if (walk->begun && walk->type_is_null)
		ScanKeyEntryInitialize(&key, SK_ISNULL | SK_SEARCHNOTNULL,
							   INDEX_EVENT_TYPE, InvalidStrategy, InvalidOid,
							   InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyEntryInitialize(&key, 0, INDEX_EVENT_TYPE,
							   BTLessStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXT_LT, walk->type);
	index_rescan(walk->scan, &key, walk->begun ? 1 : 0, NULL, 0);
	if (index_getnext_tid(walk->scan, BackwardScanDirection) == NULL)
		return false;
	walk->begun = true;
	walk->type = index_getattr(walk->scan->xs_itup, INDEX_EVENT_TYPE,
							   RelationGetDescr(walk->index),
							   &walk->type_is_null);
	if (!walk->type_is_null)
		walk->type = datumCopy(walk->type, false, -1);
	walk->position =
		DatumGetInt64(index_getattr(walk->scan->xs_itup, INDEX_LOG_POSITION,
									RelationGetDescr(walk->index), &isnull));
	return true;
}

static int64
highest_of_leaf(const DbOptLogLeaf *leaf, Snapshot snapshot)
{
	TopWalk		walk = {.index = leaf->index};
	int64		highest = -1;
	bool		more = true;

	for (int keys = 0; more; keys = 1)
	{
		CHECK_FOR_INTERRUPTS();
		walk.scan = dbopt_index_beginscan(leaf->rel, leaf->index, snapshot, keys);
		walk.scan->xs_want_itup = true;
		more = walk_back(&walk);
		index_endscan(walk.scan);
		if (more)
			highest = Max(highest, walk.position);
	}
	return highest;
}

int64
dbopt_log_highest(DbOptLog *log)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	int64		highest = -1;

	for (int i = 0; i < log->nleaves; i++)
	{
		int64		position = highest_of_leaf(&log->leaves[i], snapshot);

		highest = Max(highest, position);
	}
	UnregisterSnapshot(snapshot);
	return highest;
}
