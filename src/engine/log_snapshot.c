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

#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "engine/catalog.h"
#include "engine/log.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Are its partitions those that there are now? */
static bool
is_whole(const DbOptLog *log)
{
	if (log->root->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return true;
	AcceptInvalidationMessages();
	return equal(log->members,
				 find_all_inheritors(RelationGetRelid(log->root), NoLock,
									 NULL));
}

static DbOptLog *
open_anew(DbOptLog *log)
{
	MemoryContext previous = MemoryContextSwitchTo(GetMemoryChunkContext(log));
	Oid			relid = RelationGetRelid(log->root);
	bool		unprocessed_only = log->unprocessed_only;

	dbopt_log_close(log);
	log = dbopt_log_open(relid);
	log->unprocessed_only = unprocessed_only;
	MemoryContextSwitchTo(previous);
	return log;
}

Snapshot
dbopt_log_snapshot(DbOptLog **log)
{
	Snapshot	snapshot = dbopt_snapshot_new();

	while (!is_whole(*log))
	{
		UnregisterSnapshot(snapshot);
		*log = open_anew(*log);
		snapshot = dbopt_snapshot_new();
	}
	return snapshot;
}

Snapshot
dbopt_log_snapshot_again(const DbOptLog *log)
{
	Snapshot	snapshot = dbopt_snapshot_new();

	if (!is_whole(log))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("partitions of table \"%s\" were changed",
						RelationGetRelationName(log->root))));
	return snapshot;
}
