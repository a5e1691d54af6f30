/*
 * index_target.c
 *		A declared index, held against the database.
 *
 * Run by backends that report or write declarations and by pool sessions that
 * build them.  Of a row's definitions the first one that can be analyzed with
 * the table as it is counts; each is tried in a subtransaction, as the table's
 * owner in a security-restricted operation, since analysis and simplification
 * may run functions that the owner has made.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace_d.h"
#include "catalog/pg_tablespace_d.h"
#include "commands/tablespace.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/exec.h"
#include "engine/index_parse.h"
#include "engine/index_settings.h"
#include "engine/index_target.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* ---- as the owner -------------------------------------------------------- */

void
dbopt_index_scope_begin(DbOptIndexScope *scope, Oid owner)
{
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(owner, scope->security_context |
						   SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
	dbopt_index_settings_pin();
}

void
dbopt_index_scope_end(const DbOptIndexScope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
}

void
dbopt_index_pass_cancel(const DbOptFailure *failure)
{
	if (strcmp(failure->sqlstate, "57014") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("%s", failure->message)));
}

/* ---- the table ----------------------------------------------------------- */

const char *
dbopt_index_unfit(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
			break;
		case RELKIND_VIEW:
			return "is a view";
		case RELKIND_FOREIGN_TABLE:
			return "is a foreign table";
		default:
			return "is not a table";
	}
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		return "is a temporary table";
	if (relid < FirstNormalObjectId)
		return "is a system catalog";
	return NULL;
}

static void
inapplicable(DbOptIndexTarget *target, char *reason)
{
	target->condition = DBOPT_INDEX_INAPPLICABLE;
	target->reason = reason;
}

/* A name that something else has in the table's schema; NULL: it is free. */
static char *
name_taken(DbOptIndexTarget *target)
{
	const char *name = target->row->name;
	Oid			other = get_relname_relid(name,
										  get_rel_namespace(target->relid));
	char		relkind = OidIsValid(other) ? get_rel_relkind(other) : '\0';
	Oid			table;

	if (!OidIsValid(other))
		return NULL;
	if (relkind != RELKIND_INDEX && relkind != RELKIND_PARTITIONED_INDEX)
		return psprintf("the name \"%s\" belongs to something that is not an index",
						name);
	table = IndexGetRelation(other, true);
	if (table != target->relid)
		return psprintf("the name \"%s\" belongs to an index of table \"%s\"",
						name, OidIsValid(table) ? get_rel_name(table) : "?");
	target->index = other;
	return NULL;
}

/*
 * What the author of a row may not do, whoever builds the index: it may be a
 * superuser.  NULL: nothing.
 */
static char *
missing_right(const DbOptIndexRow *row, Oid relid)
{
	Oid			schema = get_rel_namespace(relid);

	if (row->author == NULL)
		return OidIsValid(dbopt_tables_unfit_owner()) ?
			pstrdup("the tables of dbopt belong to a role that is no superuser") : NULL;
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(row->author_oid)))
		return psprintf("role \"%s\", who declared it, does not exist",
						row->author);
	if (!dbopt_owns_class(relid, row->author_oid))
		return psprintf("role \"%s\", who declared it, does not own table \"%s\"",
						row->author, get_rel_name(relid));
	if (dbopt_namespace_aclcheck(schema, row->author_oid,
								 ACL_CREATE) != ACLCHECK_OK)
		return psprintf("role \"%s\", who declared it, may not create in schema \"%s\"",
						row->author, get_namespace_name(schema));
	return NULL;
}

/* What forbids the index, whatever its definition; NULL: nothing. */
static char *
obstacle(DbOptIndexTarget *target)
{
	const char *unfit = dbopt_index_unfit(target->relid);
	char	   *reason = missing_right(target->row, target->relid);

	if (unfit != NULL)
		return psprintf("\"%s\" %s", get_rel_name(target->relid), unfit);
	return reason != NULL ? reason : name_taken(target);
}

/* ---- the definition ------------------------------------------------------ */

/* One definition that is tried on the table. */
typedef struct Trial
{
	DbOptIndexTarget *target;
	const char *definition;
} Trial;

/* What cannot even be read is judged by its name alone, and not waited for. */
static void
judge_locked(DbOptIndexTarget *target, const char *reason)
{
	target->locked = true;
	target->condition = !OidIsValid(target->index) ? DBOPT_INDEX_MISSING :
		get_index_isvalid(target->index) ? DBOPT_INDEX_VALID :
		DBOPT_INDEX_INVALID;
	target->reason = pstrdup(reason);
}

static void
compare(DbOptIndexTarget *target)
{
	Relation	index;
	const char *difference;

	target->condition = DBOPT_INDEX_MISSING;
	if (!OidIsValid(target->index))
		return;
	if (!ConditionalLockRelationOid(target->index, AccessShareLock))
	{
		judge_locked(target, "the index is locked");
		return;
	}
	index = index_open(target->index, NoLock);
	difference = dbopt_index_difference(target->shape, index);
	target->condition = DBOPT_INDEX_VALID;
	if (!index->rd_index->indisvalid || !index->rd_index->indisready)
	{
		target->condition = DBOPT_INDEX_INVALID;
		target->reason = pstrdup(index->rd_rel->relkind == RELKIND_INDEX ?
								 "its build did not finish" :
								 "not all partitions have it");
	}
	else if (difference != NULL)
	{
		target->condition = DBOPT_INDEX_DIFFERENT;
		target->reason = pstrdup(difference);
	}
	index_close(index, AccessShareLock);
}

/* A tablespace is looked for as CREATE INDEX looks for it. */
static void
check_tablespace(const DbOptIndexRow *row, const char *name)
{
	Oid			tablespace = get_tablespace_oid(name, false);

	if (row->author != NULL && tablespace != MyDatabaseTableSpace &&
		dbopt_tablespace_aclcheck(tablespace, row->author_oid) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLESPACE, name);
}

static void
try_definition(void *arg)
{
	Trial	   *trial = arg;
	DbOptIndexTarget *target = trial->target;
	DbOptIndexScope scope;
	DbOptIndexErrors errors;

	dbopt_index_scope_begin(&scope, target->owner);
	target->statement = dbopt_index_parse(trial->definition, &target->source);
	dbopt_index_errors_begin(&errors, trial->definition);
	dbopt_index_direct(target->statement, target->row->name,
					   target->row->is_unique, target->relid,
					   target->row->shipped);
	if (target->statement->tableSpace != NULL)
		check_tablespace(target->row, target->statement->tableSpace);
	target->shape = dbopt_index_shape(target->statement, target->relid,
									  target->source);
	dbopt_index_errors_end(&errors);
	compare(target);
	dbopt_index_scope_end(&scope);
}

static void
try_definitions(DbOptIndexTarget *target)
{
	Trial		trial = {.target = target};
	List	   *definitions = lcons(target->row->definition,
									list_copy(target->row->alternatives));
	char	   *reason = NULL;
	ListCell   *cell;

	foreach(cell, definitions)
	{
		DbOptFailure failure;

		trial.definition = lfirst(cell);
		if (dbopt_exec_try(try_definition, &trial, 0, &failure))
			return;
		dbopt_index_pass_cancel(&failure);
		if (reason == NULL)
			reason = failure.message;
	}
	target->statement = NULL;
	target->shape = NULL;
	inapplicable(target, reason);
}

/* ---- both ---------------------------------------------------------------- */

static bool
find_owner(DbOptIndexTarget *target)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(target->relid));

	if (!HeapTupleIsValid(tuple))
		return false;
	target->owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return true;
}

static void
judge(DbOptIndexTarget *target)
{
	bool		locked = ConditionalLockRelationOid(target->relid,
													AccessShareLock);

	if (!find_owner(target))
	{
		target->relid = InvalidOid;
		inapplicable(target, psprintf("table \"%s\" does not exist",
									  target->row->table_name));
	}
	else
	{
		target->locked = !locked;
		target->reason = obstacle(target);
		if (target->reason != NULL)
			target->condition = DBOPT_INDEX_INAPPLICABLE;
		else if (!locked)
			judge_locked(target, "the table is locked");
		else
			try_definitions(target);
	}
	if (locked && OidIsValid(target->relid))
		UnlockRelationOid(target->relid, AccessShareLock);
}

void
dbopt_index_examine(const DbOptIndexRow *row, DbOptIndexTarget *target)
{
	memset(target, 0, sizeof(*target));
	target->row = row;
	target->relid = dbopt_index_table_find(row->table_name);
	if (!row->enabled)
		inapplicable(target, pstrdup("it is not enabled"));
	else if (!OidIsValid(target->relid))
		inapplicable(target, psprintf("table \"%s\" does not exist",
									  row->table_name));
	else
		judge(target);
}
