/*
 * dbopt.c
 *		Module: magic, load, hooks.
 *
 * The hooks run in every backend of a server that preloads the library; each
 * calls the one that was there before.  They tell launcher and schedulers of
 * what comes and goes (api/ddl_notes.c), keep triggers off dbopt's tables, and
 * clear a database of workers for commands that need it without connections
 * (api/database_commands.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/database_commands.h"
#include "api/ddl_notes.h"
#include "api/uninstall.h"
#include "api/update.h"
#include "compat.h"
#include "engine/worker.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "state/guc.h"
#include "state/news.h"
#include "state/shmem.h"
#include "tcop/utility.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static object_access_hook_type previous_object_access_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

/* ---- hooks --------------------------------------------------------------- */

static void
dbopt_object_access(ObjectAccessType access, Oid classId, Oid objectId,
					int subId, void *arg)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, classId, objectId, subId, arg);

	if (access == OAT_POST_CREATE || access == OAT_POST_ALTER ||
		access == OAT_DROP)
		dbopt_note_object(access, classId, objectId);
}

/*
 * What a prepared transaction wrote is noted under its name.
 */
static void
before_prepare(Node *statement)
{
	TransactionStmt *transaction = (TransactionStmt *) statement;

	if (IsA(statement, TransactionStmt) &&
		transaction->kind == TRANS_STMT_PREPARE)
		dbopt_news_note_prepare(transaction->gid);
}

static void
after_prepared(Node *statement)
{
	TransactionStmt *transaction = (TransactionStmt *) statement;

	if (!IsA(statement, TransactionStmt))
		return;
	if (transaction->kind == TRANS_STMT_COMMIT_PREPARED)
		dbopt_news_publish_prepared(transaction->gid);
	else if (transaction->kind == TRANS_STMT_ROLLBACK_PREPARED)
		dbopt_news_forget_prepared(transaction->gid);
}

static void
dbopt_utility(PlannedStmt *pstmt, const char *queryString,
			  bool readOnlyTree, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *queryEnv,
			  DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;

	if (!IsBinaryUpgrade)
	{
		dbopt_database_make_way(statement, context == PROCESS_UTILITY_TOPLEVEL);
		dbopt_uninstall_prepare(statement);
		dbopt_update_prepare(statement);
	}
	before_prepare(statement);

	if (previous_utility_hook)
		previous_utility_hook(pstmt, queryString, readOnlyTree, context,
							  params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);

	after_prepared(statement);
	dbopt_note_statement(statement);
}

/* ---- loading ------------------------------------------------------------- */

static void
install_hooks(void)
{
	previous_object_access_hook = object_access_hook;
	object_access_hook = dbopt_object_access;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = dbopt_utility;
}

/*
 * Each call of dbopt_with_connection() takes a segment of dynamic shared memory,
 * which costs more than all else of it when the kernel has to make one.  What
 * the configuration says about it holds.
 */
static void
reserve_dynamic_memory(void)
{
	SetConfigOption("min_dynamic_shared_memory", "4MB", PGC_POSTMASTER,
					PGC_S_DYNAMIC_DEFAULT);
}

/*
 * Without preloading there are the settings and the functions that need no
 * shared memory; everything else refuses with dbopt_require_preload().
 */
void
_PG_init(void)
{
	dbopt_guc_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	reserve_dynamic_memory();
	dbopt_shmem_hooks_install();
	dbopt_news_install();
	install_hooks();
	dbopt_launcher_register();
}
