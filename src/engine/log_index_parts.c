/*
 * log_index_parts.c
 *		The log indexes of a partitioned table and its partitions, made one.
 *
 * Run by the scheduler and by the pool session that builds log indexes
 * (log_build.c).  Partitions have theirs built concurrently, each by itself,
 * and a partitioned table cannot.  So it gets an empty one, which partitions
 * that come later follow, and the others are attached to it; with the last of
 * them it becomes valid.  Takes ACCESS SHARE on the partitions.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "engine/log_index.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Both valid indexes and others, valid ones first. */
static List *
all_indexes(Relation rel, const char *key_column)
{
	return list_concat(dbopt_log_indexes(rel, key_column, true),
					   dbopt_log_indexes(rel, key_column, false));
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static char *
creation(Relation rel, const char *key_column)
{
	return psprintf("CREATE INDEX %s ON ONLY %s %s",
					dbopt_log_index_choose_name(RelationGetNamespace(rel)),
					qualified_name(RelationGetRelid(rel)),
					dbopt_log_index_columns(rel, key_column));
}

/* The index of a partition that can still be attached; *attached: one is. */
static Oid
find_detached(List *indexes, Oid parent_index, bool *attached)
{
	Oid			detached = InvalidOid;
	ListCell   *cell;

	*attached = false;
	foreach(cell, indexes)
	{
		Oid			index = lfirst_oid(cell);

		if (!get_rel_relispartition(index))
			detached = OidIsValid(detached) ? detached : index;
		else if (get_partition_parent(index, true) == parent_index)
			*attached = true;
	}
	return detached;
}

/* The statement that attaches an index to its parent's; NULL: it is. */
static char *
attachment(Oid partition, Oid parent_index, const char *key_column)
{
	Relation	rel = table_open(partition, NoLock);
	bool		attached;
	Oid			index = find_detached(all_indexes(rel, key_column),
									  parent_index, &attached);

	table_close(rel, NoLock);
	if (attached || !OidIsValid(index))
		return NULL;
	return psprintf("ALTER INDEX %s ATTACH PARTITION %s",
					qualified_name(parent_index), qualified_name(index));
}

/* What a partitioned table or partition lacks; NULL: nothing. */
static char *
completion(Relation rel, const char *key_column)
{
	List	   *indexes;
	char	   *statement = NULL;
	ListCell   *cell;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return NULL;
	indexes = all_indexes(rel, key_column);
	if (indexes == NIL)
		return creation(rel, key_column);
	foreach(cell, find_inheritance_children(RelationGetRelid(rel),
											AccessShareLock))
	{
		statement = attachment(lfirst_oid(cell), linitial_oid(indexes),
							   key_column);
		if (statement != NULL)
			break;
	}
	return statement;
}

char *
dbopt_log_index_completion(Relation rel, const char *key_column)
{
	char	   *statement = NULL;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(rel), AccessShareLock,
									  NULL))
	{
		Relation	part = table_open(lfirst_oid(cell), NoLock);

		statement = completion(part, key_column);
		table_close(part, NoLock);
		if (statement != NULL)
			break;
	}
	return statement;
}
