/*
 * index_reckon.c
 *		Size and build time of declared indexes, before they are built.
 *
 * Run by whoever asks, and by the pool session that is about to build one.
 * What the index's expressions, predicate and operator classes call is run as
 * the table's owner, who can do nothing then but what an index build may do.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "engine/index_rate.h"
#include "engine/index_reckon.h"
#include "engine/owner_spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* As the definition has it; 0: the access method's own. */
static int
fill_factor(const IndexStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "fillfactor") == 0 && option->arg != NULL)
			return defGetInt32(option);
	}
	return 0;
}

/* A partition may have its columns in another order than the whole. */
static DbOptIndexShape *
shape_for(const DbOptIndexTarget *target, Relation rel)
{
	IndexStmt  *statement = copyObject(target->statement);

	statement->relation->schemaname =
		get_namespace_name(RelationGetNamespace(rel));
	statement->relation->relname = pstrdup(RelationGetRelationName(rel));
	return dbopt_index_shape(statement, RelationGetRelid(rel),
							 target->source);
}

static void
reckon_as_owner(const DbOptIndexTarget *target, Relation rel,
				DbOptIndexSize *size)
{
	MemoryContext caller = CurrentMemoryContext;
	DbOptOwnerScope scope;

	dbopt_owner_begin_as(&scope, rel->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	dbopt_index_size(rel, shape_for(target, rel),
					 fill_factor(target->statement), size);
	dbopt_owner_end(&scope);
	MemoryContextSwitchTo(caller);
}

bool
dbopt_index_reckon(const DbOptIndexTarget *target, Oid relid,
				   DbOptIndexSize *size)
{
	Relation	rel;
	bool		reckoned;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return false;
	}
	reckoned = rel->rd_rel->relkind == RELKIND_RELATION ||
		rel->rd_rel->relkind == RELKIND_MATVIEW;
	if (reckoned)
		reckon_as_owner(target, rel, size);
	relation_close(rel, AccessShareLock);
	return reckoned;
}

bool
dbopt_index_reckon_all(const DbOptIndexTarget *target, DbOptIndexSize *sum)
{
	List	   *relids = get_rel_relkind(target->relid) ==
	RELKIND_PARTITIONED_TABLE ?
	find_all_inheritors(target->relid, NoLock, NULL) :
	list_make1_oid(target->relid);
	ListCell   *cell;

	memset(sum, 0, sizeof(*sum));
	foreach(cell, relids)
	{
		DbOptIndexSize size;

		CHECK_FOR_INTERRUPTS();
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_PARTITIONED_TABLE)
			continue;
		if (!dbopt_index_reckon(target, lfirst_oid(cell), &size))
			return false;
		sum->rows += size.rows;
		sum->bytes += size.bytes;
		sum->ms += size.ms * dbopt_index_rate(target->shape->am,
											  size.table_rows);
	}
	return true;
}
