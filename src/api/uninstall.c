/*
 * uninstall.c
 *		Making way for a command that drops the extension.
 *
 * Run by the backend of whoever drops it, before the command.  That locks the
 * extension's tables first and then, for their triggers, the events tables;
 * writers and workers go the other way.  So the workers end, or part from the
 * extension's tables, and the events tables are locked first, in the order of
 * their OIDs: whoever has one of them then waits for nothing that the command
 * has.  So are tables whose defaults are changed (key_defaults.c).
 */
#include "postgres.h"

#include "api/key_defaults.h"
#include "api/uninstall.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "compat.h"
#include "engine/config.h"
#include "engine/extension.h"
#include "engine/index_own.h"
#include "engine/index_state.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "state/hold.h"
#include "state/pool.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

/* The extension that ours requires: to drop it with CASCADE drops ours, too. */
#define REQUIRED "pg_trgm"

/* Is this name among those of a DROP EXTENSION or DROP SCHEMA? */
static bool
is_named(const DropStmt *statement, const char *name)
{
	ListCell   *cell;

	foreach(cell, statement->objects)
	{
		Node	   *object = lfirst(cell);

		if (IsA(object, String) && strcmp(strVal(object), name) == 0)
			return true;
	}
	return false;
}

static bool
is_cascading(Node *statement)
{
	return (IsA(statement, DropStmt) ?
			((DropStmt *) statement)->behavior :
			((DropOwnedStmt *) statement)->behavior) == DROP_CASCADE;
}

static bool
drops_by_name(const DropStmt *statement, const char *name, Oid extension)
{
	Oid			schema;

	if (statement->removeType == OBJECT_EXTENSION)
		return is_named(statement, name) &&
			dbopt_owns_extension(extension, GetUserId());
	schema = dbopt_extension_schema(name);
	return statement->behavior == DROP_CASCADE &&
		is_named(statement, get_namespace_name(schema)) &&
		dbopt_owns_namespace(schema, GetUserId());
}

static bool
drops_by_owner(const DropOwnedStmt *statement, const char *name, Oid extension)
{
	ListCell   *cell;

	foreach(cell, statement->roles)
	{
		Oid			role = get_rolespec_oid(lfirst_node(RoleSpec, cell), true);

		if (OidIsValid(role) && has_privs_of_role(GetUserId(), role) &&
			(dbopt_owns_extension(extension, role) ||
			 dbopt_owns_namespace(dbopt_extension_schema(name), role)))
			return true;
	}
	return false;
}

static bool
drops(Node *statement, const char *name)
{
	Oid			extension = get_extension_oid(name, true);

	if (!OidIsValid(extension))
		return false;
	return IsA(statement, DropStmt) ?
		drops_by_name((DropStmt *) statement, name, extension) :
		drops_by_owner((DropOwnedStmt *) statement, name, extension);
}

/* May this kind of statement drop extensions? */
static bool
is_fit(Node *statement)
{
	if (!IsA(statement, DropStmt))
		return IsA(statement, DropOwnedStmt);
	return ((DropStmt *) statement)->removeType == OBJECT_EXTENSION ||
		((DropStmt *) statement)->removeType == OBJECT_SCHEMA;
}

static bool
drops_extension(Node *statement)
{
	if (!is_fit(statement) || !OidIsValid(get_extension_oid("dbopt", true)))
		return false;
	return drops(statement, "dbopt") ||
		(is_cascading(statement) && drops(statement, REQUIRED));
}

static void
lock_tables(void)
{
	List	   *tables = dbopt_key_default_tables();
	ListCell   *cell;

	foreach(cell, dbopt_config_look()->sources)
	{
		DbOptSource *source = lfirst(cell);

		if (OidIsValid(source->relid))
			tables = list_append_unique_oid(tables, source->relid);
	}
	list_sort(tables, list_oid_cmp);
	foreach(cell, tables)
	{
		Oid			relid = lfirst_oid(cell);

		LockRelationOid(relid, AccessExclusiveLock);
		if (get_rel_name(relid) == NULL)
			UnlockRelationOid(relid, AccessExclusiveLock);
		else
			(void) find_all_inheritors(relid, AccessExclusiveLock, NULL);
	}
}

/*
 * Indexes belong to their tables, and stay: whoever drops the extension is
 * told so.
 */
static void
tell_of_indexes(void)
{
	int			count = 0;
	ListCell   *cell;

	foreach(cell, dbopt_index_states())
	{
		if (OidIsValid(dbopt_index_own(lfirst(cell))))
			count++;
	}
	if (count > 0)
		ereport(NOTICE,
				(errmsg_plural("%d index that dbopt has built stays in place",
							   "%d indexes that dbopt has built stay in place",
							   count, count),
				 errhint("CALL dbopt_drop_indexes() drops them, before DROP EXTENSION does away with it.")));
}

/* Its chunk could not be settled when it returns. */
static void
check_not_handler(void)
{
	if (dbopt_my_session->job.kind != DBOPT_JOB_SQL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a handler cannot drop the extension that runs it"),
				 errhint("Let a client drop it.")));
}

/*
 * Who drops the extension by dbopt_with_connection() is a worker itself, and
 * has to do without the rest.
 */
void
dbopt_uninstall_prepare(Node *statement)
{
	if (!drops_extension(statement))
		return;
	if (dbopt_my_session != NULL)
		check_not_handler();
	else
	{
		tell_of_indexes();
		dbopt_hold_extension();
		if (is_cascading(statement))
			lock_tables();
	}
	if (is_cascading(statement))
		dbopt_key_defaults_replace();
}
