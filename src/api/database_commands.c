/*
 * database_commands.c
 *		Commands that need a database without connections: CREATE DATABASE of a
 *		template, DROP, RENAME and SET TABLESPACE.
 *
 * Run by every backend, from the hooks of dbopt.c, before the command.  The
 * user's rights to the database are checked first: nobody else may stop its
 * workers.  So is the transaction block that the command would refuse.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/database_commands.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "state/hold.h"
#include "utils/acl.h"
#include "utils/syscache.h"

static bool
owns_database(Oid dboid)
{
	return OidIsValid(dboid) && dbopt_owns_database(dboid, GetUserId());
}

/* The server's own have_createdb_privilege() came in minor versions only. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	may = HeapTupleIsValid(tuple) &&
		((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may;
}

/*
 * CREATE DATABASE: the one to be copied.  A template that anybody may copy has
 * no workers.
 */
static Oid
copied_database(const CreatedbStmt *statement)
{
	const char *template = NULL;
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	if (template == NULL || !may_create_databases())
		return InvalidOid;
	return get_database_oid(template, true);
}

static bool
sets_tablespace(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			return true;
	}
	return false;
}

/*
 * The database that this command needs for itself, InvalidOid for none, and
 * the command's name.  The present database is of no interest but for CREATE
 * DATABASE: the others refuse to touch it.
 */
static Oid
claimed_database(Node *statement, const char **command)
{
	Oid			dboid = InvalidOid;

	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			*command = "CREATE DATABASE";
			return copied_database((CreatedbStmt *) statement);
		case T_DropdbStmt:
			*command = "DROP DATABASE";
			dboid = get_database_oid(((DropdbStmt *) statement)->dbname, true);
			break;
		case T_AlterDatabaseStmt:
			*command = "ALTER DATABASE SET TABLESPACE";
			if (sets_tablespace((AlterDatabaseStmt *) statement))
				dboid = get_database_oid(((AlterDatabaseStmt *) statement)->dbname,
										 true);
			break;
		case T_RenameStmt:
			*command = NULL;	/* may run in a transaction block */
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE &&
				may_create_databases())
				dboid = get_database_oid(((RenameStmt *) statement)->subname,
										 true);
			break;
		default:
			break;
	}
	return dboid == MyDatabaseId ? InvalidOid : dboid;
}

void
dbopt_database_make_way(Node *statement, bool top_level)
{
	const char *command = NULL;
	Oid			dboid = claimed_database(statement, &command);

	if (!owns_database(dboid))
		return;
	if (command != NULL)
		PreventInTransactionBlock(top_level, command);
	dbopt_hold_database(dboid);
}
