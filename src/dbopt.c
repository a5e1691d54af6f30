/*
 * dbopt.c
 *		Module: magic, load, hooks.
 *
 * The hooks run in every backend of a server that preloads the library; each
 * calls the one that was there before.  They tell launcher and schedulers of
 * what comes and goes, keep triggers off dbopt's tables, and clear a database of workers for commands that
 * need it without connections.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/own_tables.h"
#include "api/uninstall.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "engine/config.h"
#include "engine/worker.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "state/guc.h"
#include "state/hold.h"
#include "state/news.h"
#include "state/shmem.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static object_access_hook_type previous_object_access_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

/* ---- objects that come and go -------------------------------------------- */

/*
 * Could this relation be an events table or one that indexes are declared for,
 * or an index?
 */
static bool
is_lasting(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

/*
 * What was created, altered or dropped is known at commit; until then it is a
 * note.
 */
static void
note_object(ObjectAccessType access, Oid classId, Oid objectId)
{
	switch (classId)
	{
		case ExtensionRelationId:
			dbopt_news_note_launcher();
			dbopt_news_note_config();
			if (access == OAT_POST_ALTER)
				dbopt_config_changed(); /* its version, perhaps */
			break;
		case DatabaseRelationId:
			dbopt_news_note_database(objectId);
			break;
		case ProcedureRelationId:
		case NamespaceRelationId:
			if (access != OAT_POST_CREATE)
				dbopt_news_note_objects();
			break;
		case RelationRelationId:
			if (access != OAT_POST_CREATE && is_lasting(objectId))
				dbopt_news_note_objects();
			break;
		case TriggerRelationId:
			if (access == OAT_POST_CREATE)
				dbopt_own_tables_check_trigger(objectId);
			dbopt_news_note_objects();
			break;
		case AuthIdRelationId:
			dbopt_news_note_roles();
			break;
		case DbRoleSettingRelationId:
			dbopt_news_note_settings();
			break;
		default:
			break;
	}
}

static void
dbopt_object_access(ObjectAccessType access, Oid classId, Oid objectId,
					int subId, void *arg)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, classId, objectId, subId, arg);

	if (access == OAT_POST_CREATE || access == OAT_POST_ALTER ||
		access == OAT_DROP)
		note_object(access, classId, objectId);
}

static bool
is_lasting_name(const RangeVar *name)
{
	Oid			relid = name == NULL ? InvalidOid :
	RangeVarGetRelid(name, NoLock, true);

	return OidIsValid(relid) && is_lasting(relid);
}

/*
 * What no object access hook tells in time: an index that is built
 * concurrently is valid only at the end, partitions come and go, and so do
 * rights to connect, by grants on databases and of roles.
 */
static void
note_affected(Node *statement)
{
	bool		affected = false;

	switch (nodeTag(statement))
	{
		case T_IndexStmt:
			affected = is_lasting_name(((IndexStmt *) statement)->relation);
			break;
		case T_ReindexStmt:
			affected = true;
			break;
		case T_AlterTableStmt:
			affected = is_lasting_name(((AlterTableStmt *) statement)->relation);
			break;
		case T_CreateStmt:
			affected = ((CreateStmt *) statement)->partbound != NULL;
			break;
		case T_GrantStmt:
			if (((GrantStmt *) statement)->objtype == OBJECT_DATABASE)
				dbopt_news_note_roles();
			break;
		case T_GrantRoleStmt:
			dbopt_news_note_roles();
			break;
		default:
			break;
	}
	if (affected)
		dbopt_news_note_objects();
}

/*
 * Could this statement have made a declared index possible?
 */
static bool
brings_tables(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return is_lasting_name(((CreateStmt *) statement)->relation);
		case T_CreateTableAsStmt:
			return is_lasting_name(((CreateTableAsStmt *) statement)->into->rel);
		case T_AlterTableStmt:
			return is_lasting_name(((AlterTableStmt *) statement)->relation);
		case T_AlterObjectSchemaStmt:
			return ((AlterObjectSchemaStmt *) statement)->objectType == OBJECT_TABLE;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->relationType == OBJECT_TABLE ||
				((RenameStmt *) statement)->renameType == OBJECT_TABLE ||
				((RenameStmt *) statement)->renameType == OBJECT_SCHEMA;
		default:
			return false;
	}
}

static void
after_ddl(Node *statement)
{
	note_affected(statement);
	if (dbopt_auto_index && brings_tables(statement))
		dbopt_news_note_tables();
}

/* ---- commands that need a database without connections ------------------- */

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

/*
 * Clears the database that the command needs.  The user's rights to it are
 * checked first: nobody else may stop its workers.  So is the transaction
 * block that the command would refuse.
 */
static void
make_way(Node *statement, bool top_level)
{
	const char *command = NULL;
	Oid			dboid = claimed_database(statement, &command);

	if (!owns_database(dboid))
		return;
	if (command != NULL)
		PreventInTransactionBlock(top_level, command);
	dbopt_hold_database(dboid);
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
		make_way(statement, context == PROCESS_UTILITY_TOPLEVEL);
		dbopt_uninstall_prepare(statement);
	}
	before_prepare(statement);

	if (previous_utility_hook)
		previous_utility_hook(pstmt, queryString, readOnlyTree, context,
							  params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);

	after_prepared(statement);
	after_ddl(statement);
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
	install_hooks();
	dbopt_launcher_register();
}
