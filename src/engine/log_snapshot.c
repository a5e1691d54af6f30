/*
 * log_snapshot.c
 *		The snapshot that a log is read with, and the partitions that it sees.
 *
 * Run by pool sessions, and by backends that ask how far a log is delivered.  A
 * log is opened first, then the cursor or the chunk is locked, then the snapshot
 * is taken.  ATTACH PARTITION needs no lock that conflicts with the first, and
 * can come in between.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "engine/catalog.h"
#include "engine/log.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* The members are in order. */
static bool
is_member(const DbOptLog *log, Oid relid)
{
	int			low = 0;
	int			high = list_length(log->members);

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (list_nth_oid(log->members, middle) < relid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list_length(log->members) &&
		list_nth_oid(log->members, low) == relid;
}

/*
 * A partition of this table that the snapshot sees and the log does not have.
 * The catalogue is read, since others may see a commit before they are told of
 * what it invalidates: they take a table for one without partitions.
 */
static Oid
missing_child(const DbOptLog *log, Relation inherits, Oid parent,
			  Snapshot snapshot)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			missing = InvalidOid;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(parent));
	scan = systable_beginscan(inherits, InheritsParentIndexId, true, snapshot,
							  1, &key);
	while (!OidIsValid(missing) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);

		if (!form->inhdetachpending &&
			!is_member(log, form->inhrelid))
			missing = form->inhrelid;
	}
	systable_endscan(scan);
	return missing;
}

static Oid
missing_partition(const DbOptLog *log, Snapshot snapshot)
{
	Relation	inherits;
	Oid			missing = InvalidOid;
	ListCell   *cell;

	if (log->members == NIL)
		return InvalidOid;
	inherits = table_open(InheritsRelationId, AccessShareLock);
	foreach(cell, log->members)
	{
		Oid			member = lfirst_oid(cell);

		if (get_rel_relkind(member) == RELKIND_PARTITIONED_TABLE)
			missing = missing_child(log, inherits, member, snapshot);
		if (OidIsValid(missing))
			break;
	}
	table_close(inherits, AccessShareLock);
	return missing;
}

/* Whoever has attached the partition keeps it locked until others are told. */
static DbOptLog *
open_anew(DbOptLog *log, Oid partition)
{
	MemoryContext previous = MemoryContextSwitchTo(GetMemoryChunkContext(log));
	Oid			relid = RelationGetRelid(log->root);
	bool		unprocessed_only = log->unprocessed_only;

	dbopt_log_close(log);
	LockRelationOid(partition, AccessShareLock);
	log = dbopt_log_open(relid);
	log->unprocessed_only = unprocessed_only;
	MemoryContextSwitchTo(previous);
	return log;
}

Snapshot
dbopt_log_snapshot(DbOptLog **log)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	Oid			missing;

	while (OidIsValid(missing = missing_partition(*log, snapshot)))
	{
		UnregisterSnapshot(snapshot);
		*log = open_anew(*log, missing);
		snapshot = dbopt_snapshot_new();
	}
	return snapshot;
}

Snapshot
dbopt_log_snapshot_again(const DbOptLog *log)
{
	Snapshot	snapshot = dbopt_snapshot_new();

	if (OidIsValid(missing_partition(log, snapshot)))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("partitions of table \"%s\" were changed",
						RelationGetRelationName(log->root))));
	return snapshot;
}

bool
dbopt_log_snapshot_renew(const DbOptLog *log, Snapshot *snapshot)
{
	Snapshot	newer = dbopt_snapshot_new();
	bool		whole = !OidIsValid(missing_partition(log, newer));

	UnregisterSnapshot(whole ? *snapshot : newer);
	if (whole)
		*snapshot = newer;
	return whole;
}
