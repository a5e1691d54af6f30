/*
 * log_leftover.c
 *		What the build of a log index has left when dbopt is dropped.
 *
 * Run by the pool session that was building it, on a table or partition that
 * it remembers: there may be no source any more.  Takes SHARE UPDATE EXCLUSIVE
 * on it, which keeps no writer waiting.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/log_index.h"
#include "engine/log_leftover.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static void
commit(const DbOptLogLeftovers *leftovers)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(leftovers->context);
}

/*
 * Whoever else builds or drops indexes of the table has ended by then.  What
 * has been half dropped is not found again, and is known from before.
 */
static void
find(DbOptLogLeftovers *leftovers)
{
	Relation	rel;
	ListCell   *cell;

	dbopt_exec_begin();
	LockRelationOid(leftovers->relid, ShareUpdateExclusiveLock);
	rel = try_table_open(leftovers->relid, NoLock);
	MemoryContextSwitchTo(leftovers->context);
	if (rel != NULL)
	{
		foreach(cell, dbopt_log_indexes(rel, leftovers->key_column, false))
		{
			if (!get_rel_relispartition(lfirst_oid(cell)))
				leftovers->indexes =
					list_append_unique_oid(leftovers->indexes,
										   lfirst_oid(cell));
		}
		table_close(rel, NoLock);
	}
	commit(leftovers);
}

/* It may have gone by itself. */
static void
drop(const DbOptLogLeftovers *leftovers, Oid index)
{
	char	   *schema;
	char	   *name;

	dbopt_exec_begin();
	MemoryContextSwitchTo(leftovers->context);
	schema = get_namespace_name(get_rel_namespace(index));
	name = get_rel_name(index);
	commit(leftovers);
	if (schema != NULL && name != NULL)
		dbopt_index_drop_concurrently(schema, name);
}

void
dbopt_log_leftovers_drop(void *arg)
{
	DbOptLogLeftovers *leftovers = arg;
	ListCell   *cell;

	find(leftovers);
	foreach(cell, leftovers->indexes)
		drop(leftovers, lfirst_oid(cell));
}
