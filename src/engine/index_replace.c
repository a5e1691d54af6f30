/*
 * index_replace.c
 *		Builds that need more than one statement: in another index's place, and
 *		on partitions.
 *
 * Run by pool sessions.  An index is replaced without a moment in which
 * queries have none: the new one is built under a name of its own, the two
 * change names in one transaction, which nobody waits for, and the old one is
 * dropped CONCURRENTLY.
 *
 * A partitioned index cannot be built CONCURRENTLY.  Its parts can, and CREATE
 * INDEX on the whole then finds and attaches them.  That needs SHARE on the
 * whole for a moment, as dropping one needs ACCESS EXCLUSIVE: others wait
 * meanwhile, so that such a step is given up after the lock time-out, all of
 * its locks together.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "commands/cluster.h"
#include "commands/comment.h"
#include "compat.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/index_parse.h"
#include "engine/index_replace.h"
#include "engine/index_timed.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Where neither role nor database sets one, as for other DDL of dbopt's. */
#define DEFAULT_LOCK_TIMEOUT_MS	3000

static int	lock_timeout = 0;	/* milliseconds */

void
dbopt_index_note_lock_timeout(void)
{
	lock_timeout = LockTimeout > 0 ? LockTimeout : DEFAULT_LOCK_TIMEOUT_MS;
}

static void
begin(MemoryContext context)
{
	CHECK_FOR_INTERRUPTS();
	dbopt_exec_begin();
	MemoryContextSwitchTo(context);
}

static void
commit(MemoryContext context)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/* ---- steps that others wait for ------------------------------------------ */

/* Runs it in a transaction that is over, or given up, in time. */
static void
run_step(DbOptExecFunction step, void *arg, MemoryContext context)
{
	DbOptFailure failure;
	bool		done;

	begin(context);
	done = dbopt_exec_try(step, arg, lock_timeout * INT64CONST(1000),
						  &failure);
	if (!done && failure.timed_out)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the table and its partitions within %d ms",
						lock_timeout)));
	if (!done)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(failure.sqlstate[0],
									   failure.sqlstate[1],
									   failure.sqlstate[2],
									   failure.sqlstate[3],
									   failure.sqlstate[4])),
				 errmsg_internal("%s", failure.message),
				 failure.detail ? errdetail_internal("%s", failure.detail) : 0));
	commit(context);
}

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
	run_step(drop_step, &index, context);
}

/* ---- in another's place -------------------------------------------------- */

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

/* What is not an index alone is not ours to replace. */
static void
check_replaceable(Oid index)
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

/*
 * The new index takes the declared name, and the old one's place if that still
 * has the name: whoever has renamed it keeps it.  Returns the old one, to be
 * dropped; InvalidOid: it was not replaced.  The table is locked against other
 * DDL.
 */
static Oid
take_place(const DbOptIndexTarget *target, Oid new)
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
		check_replaceable(old);
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

	begin(context);
	check_replaceable(target->index);
	commit(context);
	dbopt_index_create_timed(target, target->relid, new_name, &new_built);

	begin(context);
	LockRelationOid(target->relid, ShareUpdateExclusiveLock);
	old = take_place(target,
					 get_relname_relid(new_name,
									   get_rel_namespace(target->relid)));
	commit(context);
	*built = true;
	if (OidIsValid(old))
		dbopt_index_drop_concurrently(schema, dbopt_index_old_name(name));
}

/* ---- on partitions ------------------------------------------------------- */

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

	begin(context);
	partitioned = get_rel_relkind(target->relid) ==
		RELKIND_PARTITIONED_TABLE;
	commit(context);
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

	begin(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(cell, find_all_inheritors(build->target->relid, AccessShareLock,
									  NULL))
	{
		DbOptIndexPart *part = examine_part(build, lfirst_oid(cell));

		if (part->index_name != NULL)
			missing = lappend(missing, part);
	}
	PopActiveSnapshot();
	commit(context);
	return missing;
}

static void
create_step(void *arg)
{
	PartitionedBuild *build = arg;
	Oid			new = dbopt_index_create(build->target, build->name);

	if (OidIsValid(build->replaced))
		build->replaced = take_place(build->target, new);
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
		begin(context);
		check_replaceable(build.replaced);
		commit(context);
		build.name = dbopt_index_new_name(target->row->name);
	}
	foreach(cell, missing_parts(&build, context))
	{
		DbOptIndexPart *part = lfirst(cell);

		*parts = lappend(*parts, part);
		dbopt_index_create_timed(target, part->relid, part->index_name,
								 &part->built);
	}
	run_step(create_step, &build, context);
	*built = true;
	if (OidIsValid(build.replaced))
		dbopt_index_drop_partitioned(build.replaced, context);
}
