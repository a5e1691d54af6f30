/*
 * index_build.c
 *		The statements that make, rename and drop indexes.
 *
 * Run by backends and pool sessions.  They go the way of a statement that a
 * person types, with its checks, its event triggers and its log entry, but
 * from a parse tree: no name is ever read as SQL.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/index_build.h"
#include "nodes/makefuncs.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

static PlannedStmt *
wrap(Node *statement)
{
	PlannedStmt *planned = makeNode(PlannedStmt);

	planned->commandType = CMD_UTILITY;
	planned->canSetTag = false;
	planned->utilityStmt = statement;
	return planned;
}

static void
run(Node *statement, const char *source, ProcessUtilityContext context)
{
	ProcessUtility(wrap(statement), source, false, context, NULL, NULL,
				   None_Receiver, NULL);
}

/* Names in a definition are looked up in pg_catalog. */
static void
pin_search_path(void)
{
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

Oid
dbopt_index_create(const DbOptIndexTarget *target)
{
	int			guc_level = NewGUCNestLevel();

	pin_search_path();
	run((Node *) copyObject(target->statement), target->source,
		PROCESS_UTILITY_QUERY);
	AtEOXact_GUC(false, guc_level);
	CommandCounterIncrement();
	return get_relname_relid(target->row->name,
							 get_rel_namespace(target->relid));
}
