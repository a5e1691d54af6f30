/*
 * index_partitioned.c
 *		Building the index of a partitioned table.
 *
 * Run by pool sessions.  A partitioned index cannot be built CONCURRENTLY.  Its
 * parts can, and CREATE INDEX on the whole then finds and attaches them.  That
 * needs SHARE on the whole for a moment, as dropping one needs ACCESS
 * EXCLUSIVE: others wait meanwhile (index_step.c).
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "compat.h"
#include "engine/index_build.h"
#include "engine/index_parse.h"
#include "engine/index_partitioned.h"
#include "engine/index_replace.h"
#include "engine/index_step.h"
#include "engine/index_timed.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static void
drop_step(void *arg)
{
	Oid			index = *(Oid *) arg;

	if (get_rel_name(index) != NULL)
		dbopt_index_drop(index);
}

void
dbopt_index_drop_partitioned(Oid index, MemoryContext context)
{
	dbopt_index_step_run(drop_step, &index, context);
}

typedef struct PartitionedBuild
{
	const DbOptIndexTarget *target;
	Oid			replaced;		/* of the declared name; InvalidOid: none */
	const char *name;			/* to build the whole under */
} PartitionedBuild;

bool
dbopt_index_is_partitioned(const DbOptIndexTarget *target,
						   MemoryContext context)
{
	bool		partitioned;

	dbopt_index_step_begin(context);
	partitioned = get_rel_relkind(target->relid) ==
		RELKIND_PARTITIONED_TABLE;
	dbopt_index_step_commit(context);
	return partitioned;
}

/* Raises what CREATE INDEX would raise on this partition. */
static DbOptIndexShape *
part_shape(const DbOptIndexTarget *target, Relation part)
{
	IndexStmt  *statement = copyObject(target->statement);

	statement->relation->schemaname =
		get_namespace_name(RelationGetNamespace(part));
	statement->relation->relname = RelationGetRelationName(part);
	return dbopt_index_shape(statement, RelationGetRelid(part),
							 target->source);
}

/* Does this partition have an index that can be attached? */
static bool
has_part(const DbOptIndexShape *shape, Relation part)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(part))
	{
		Relation	index = relation_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisvalid && !index->rd_rel->relispartition &&
			dbopt_index_difference(shape, index) == NULL)
			found = true;
		relation_close(index, AccessShareLock);
	}
	return found;
}

/*
 * The first name that is free: an index that is replaced has one of them, and
 * what was declared before may have left another.
 */
static char *
free_part_name(Oid relid, const char *declared)
{
	Oid			schema = get_rel_namespace(relid);
	List	   *names = dbopt_index_part_names(relid, declared);
	ListCell   *cell;

	foreach(cell, names)
		if (!OidIsValid(get_relname_relid(lfirst(cell), schema)))
		return lfirst(cell);
	return linitial(names);		/* which is refused */
}

/*
 * Who owns the whole may have indexes on all of it, as by hand, where he may
 * create something; who builds may be a superuser.
 */
static void
check_author(const DbOptIndexRow *row, Relation part)
{
	Oid			schema = RelationGetNamespace(part);

	if (row->author != NULL &&
		dbopt_namespace_aclcheck(schema, row->author_oid,
								 ACL_CREATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SCHEMA,
					   get_namespace_name(schema));
}

/* Its index is to be built under this name; NULL: it has one. */
static DbOptIndexPart *
examine_part(const PartitionedBuild *build, Oid relid)
{
	DbOptIndexPart *result = palloc0(sizeof(DbOptIndexPart));
	DbOptIndexScope scope;
	DbOptIndexShape *shape;
	Relation	part;

	result->relid = relid;
	part = relation_open(relid, NoLock);
	if (part->rd_rel->relkind == RELKIND_RELATION ||
		part->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		dbopt_index_scope_begin(&scope, part->rd_rel->relowner);
		shape = part_shape(build->target, part);
		if (part->rd_rel->relkind == RELKIND_RELATION &&
			!has_part(shape, part))
		{
			check_author(build->target->row, part);
			result->index_name = free_part_name(relid,
												build->target->row->name);
		}
		dbopt_index_scope_end(&scope);
	}
	relation_close(part, NoLock);
	return result;
}

/* Those of the partitions that lack it. */
static List *
missing_parts(const PartitionedBuild *build, MemoryContext context)
{
	List	   *missing = NIL;
	ListCell   *cell;

	dbopt_index_step_begin(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(cell, find_all_inheritors(build->target->relid, AccessShareLock,
									  NULL))
	{
		DbOptIndexPart *part = examine_part(build, lfirst_oid(cell));

		if (part->index_name != NULL)
			missing = lappend(missing, part);
	}
	PopActiveSnapshot();
	dbopt_index_step_commit(context);
	return missing;
}

static void
create_step(void *arg)
{
	PartitionedBuild *build = arg;
	Oid			new = dbopt_index_create(build->target, build->name);

	if (OidIsValid(build->replaced))
		build->replaced = dbopt_index_take_place(build->target, new);
}

void
dbopt_index_build_partitioned(const DbOptIndexTarget *target,
							  MemoryContext context, List **parts,
							  bool *built)
{
	PartitionedBuild build = {
		.target = target,
		.replaced = target->index,
		.name = target->row->name
	};
	ListCell   *cell;

	if (OidIsValid(build.replaced))
	{
		dbopt_index_step_begin(context);
		dbopt_index_check_replaceable(build.replaced);
		dbopt_index_step_commit(context);
		build.name = dbopt_index_new_name(target->row->name);
	}
	foreach(cell, missing_parts(&build, context))
	{
		DbOptIndexPart *part = lfirst(cell);

		*parts = lappend(*parts, part);
		dbopt_index_create_timed(target, part->relid, part->index_name,
								 &part->built);
	}
	dbopt_index_step_run(create_step, &build, context);
	*built = true;
	if (OidIsValid(build.replaced))
		dbopt_index_drop_partitioned(build.replaced, context);
}
