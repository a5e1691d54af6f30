/*
 * index_replace.c
 *		Building an index in another one's place.
 *
 * Run by pool sessions.  An index is replaced without a moment in which
 * queries have none: the new one is built under a name of its own, the two
 * change names in one transaction, which nobody waits for, and the old one is
 * dropped CONCURRENTLY.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "commands/cluster.h"
#include "commands/comment.h"
#include "engine/index_build.h"
#include "engine/index_replace.h"
#include "engine/index_step.h"
#include "engine/index_timed.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

const char *
dbopt_index_needed(Relation index)
{
	Oid			id = RelationGetRelid(index);

	if (OidIsValid(get_index_constraint(id)))
		return "belongs to a constraint";
	if (get_index_ref_constraints(id) != NIL)
		return "is what a foreign key refers to";
	if (index->rd_rel->relispartition)
		return "is part of a partitioned table's index";
	if (index->rd_index->indisreplident)
		return "is the table's replica identity";
	return NULL;
}

void
dbopt_index_check_replaceable(Oid index)
{
	Relation	rel = relation_open(index, AccessShareLock);
	const char *reason = dbopt_index_needed(rel);

	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is different from what is declared, and %s",
						RelationGetRelationName(rel), reason)));
	relation_close(rel, AccessShareLock);
}

/* Can tables be clustered on this index? */
static bool
is_clusterable(Relation index)
{
	return index->rd_rel->relkind == RELKIND_INDEX &&
		index->rd_indam->amclusterable &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * What the old index had beside its definition goes over to the new one: its
 * comment, and that the table is clustered on it, if it can be on the new one.
 */
static void
take_marks(Oid relid, Oid new, Oid old)
{
	char	   *comment = GetComment(old, RelationRelationId, 0);
	Relation	index = relation_open(new, AccessShareLock);
	Relation	table;

	if (comment != NULL)
		CreateComments(new, RelationRelationId, 0, comment);
	if (get_index_isclustered(old) && is_clusterable(index))
	{
		table = relation_open(relid, ShareUpdateExclusiveLock);
		mark_index_clustered(table, new, true);
		relation_close(table, NoLock);
	}
	relation_close(index, NoLock);
}

Oid
dbopt_index_take_place(const DbOptIndexTarget *target, Oid new)
{
	const char *name = target->row->name;
	Oid			old = get_relname_relid(name,
										get_rel_namespace(target->relid));

	if (!OidIsValid(new) || (OidIsValid(old) && old != target->index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was changed while it was being built",
						name)));
	if (OidIsValid(old))
	{
		dbopt_index_check_replaceable(old);
		take_marks(target->relid, new, old);
	}
	dbopt_index_swap(new, old, name, dbopt_index_old_name(name));
	return old;
}

void
dbopt_index_replace(const DbOptIndexTarget *target, MemoryContext context,
					bool *built)
{
	const char *name = target->row->name;
	const char *schema = target->statement->relation->schemaname;
	char	   *new_name = dbopt_index_new_name(name);
	bool		new_built;
	Oid			old;

	dbopt_index_step_begin(context);
	dbopt_index_check_replaceable(target->index);
	dbopt_index_step_commit(context);
	dbopt_index_create_timed(target, target->relid, new_name, &new_built);

	dbopt_index_step_begin(context);
	LockRelationOid(target->relid, ShareUpdateExclusiveLock);
	old = dbopt_index_take_place(target,
								 get_relname_relid(new_name,
												   get_rel_namespace(target->relid)));
	dbopt_index_step_commit(context);
	*built = true;
	if (OidIsValid(old))
		dbopt_index_drop_concurrently(schema, dbopt_index_old_name(name));
}
