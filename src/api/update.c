/*
 * update.c
 *		Making way for ALTER EXTENSION dbopt UPDATE.
 *
 * Run by the backend of whoever updates it, before the command.  The script
 * locks dbopt's tables one after the other, in another order than workers do,
 * and could end in a deadlock with them.  So they go, and come back when the
 * transaction ends; events of that time wait.
 */
#include "postgres.h"

#include "api/update.h"
#include "catalog/pg_extension.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "engine/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "state/hold.h"
#include "state/pool.h"
#include "utils/acl.h"

/* The version it is to have; without a name we take it to be ours. */
static const char *
wanted_version(const AlterExtensionStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "new_version") == 0)
			return defGetString(option);
	}
	return dbopt_known_version();
}

/* False: the command does nothing, or this user may not run it. */
static bool
updates(const AlterExtensionStmt *statement)
{
	Oid			extension;
	char	   *installed;

	if (strcmp(statement->extname, "dbopt") != 0)
		return false;
	extension = get_extension_oid("dbopt", true);
	if (!OidIsValid(extension) ||
		!dbopt_owns_extension(extension, GetUserId()))
		return false;
	installed = dbopt_installed_version();
	return installed != NULL &&
		strcmp(installed, wanted_version(statement)) != 0;
}

/* Whoever does it by dbopt_with_connection() has to do without. */
void
dbopt_update_prepare(Node *statement)
{
	if (IsA(statement, AlterExtensionStmt) && dbopt_my_session == NULL &&
		updates((AlterExtensionStmt *) statement))
		dbopt_hold_update();
}
