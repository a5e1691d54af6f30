/*
 * log_build.c
 *		Building the log index of an attached table without locking it.
 *
 * Run by a pool session that is logged in as the table's owner, or as the
 * extension's where that one could not build it (builder.c).  The index has
 * plain columns and the default operators: nobody's code is run to build it.
 * But to look at the partitions of a table runs functions in its partition
 * key: CREATE INDEX becomes the table's owner by itself, and for ALTER INDEX
 * this is done here.
 *
 * Each table or partition that lacks the index gets it by CREATE INDEX
 * CONCURRENTLY, which takes transactions of its own; what an earlier attempt
 * has left is dropped first.  Both take SHARE UPDATE EXCLUSIVE, which keeps no
 * writer waiting, so that they may wait for it, and for old transactions, as
 * long as it takes.  Whoever else has it now is left alone: two concurrent
 * builds on one table deadlock.
 *
 * The indexes of partitions are then attached to the one of their table.  That
 * takes stronger locks for a moment, which are not waited for long.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/leave.h"
#include "engine/log_build.h"
#include "engine/log_index.h"
#include "engine/log_leftover.h"
#include "engine/owner_spi.h"
#include "engine/source_state.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "state/pool.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* For what is not done concurrently. */
#define LOCK_TIMEOUT	"1s"

typedef struct Build
{
	int32		source_id;
	MemoryContext context;
	TimestampTz since;
	bool		built;			/* a statement has been run */
	char	   *statement;		/* the next one; NULL: nothing is left to do */
	DbOptLogLeftovers leftovers;	/* of what is about to be built */
	DbOptFailure failure;
} Build;

/*
 * The settings of a role are not for this; the session resets them later.  Where
 * a build and somebody else wait for each other, as the scheduler, which locks
 * indexes in another order, whoever looks for a deadlock first gives way: that
 * is the build, which is tried again.
 */
static void
pin_settings(void)
{
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET,
					PGC_S_SESSION);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET,
					PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("deadlock_timeout", "10ms", PGC_SUSET, PGC_S_SESSION);
}

static void
commit(Build *build)
{
	if (!dbopt_exec_commit(build->context, DBOPT_COMMIT_AS_SET, 0,
						   &build->failure))
		dbopt_exec_raise_commit(&build->failure);
}

/* Nobody else may be building an index of this table, or be about to. */
static void
check_not_busy(Oid relid)
{
	if (!ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table \"%s\" is locked by VACUUM, ANALYZE or another command that changes it",
						get_rel_name(relid))));
	UnlockRelationOid(relid, ShareUpdateExclusiveLock);
}

/* The statement that brings a table nearer to having its index. */
static char *
statement_for(Oid relid, const char *key_column)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Oid			leftover = dbopt_log_index_leftover(rel, key_column);
	char	   *statement;

	if (OidIsValid(leftover))
		statement = psprintf(get_rel_relispartition(leftover) ?
							 "REINDEX INDEX CONCURRENTLY %s" :
							 "DROP INDEX CONCURRENTLY %s",
							 quote_qualified_identifier(get_namespace_name(get_rel_namespace(leftover)),
														get_rel_name(leftover)));
	else
		statement = dbopt_log_index_statement(relid, key_column,
											  dbopt_log_index_choose_name(RelationGetNamespace(rel)));
	table_close(rel, NoLock);
	return statement;
}

/* What is about to be built, for when there is no source any more. */
static void
note_table(Build *build, const DbOptSource *source, Oid relid)
{
	build->leftovers.relid = relid;
	build->leftovers.key_column = MemoryContextStrdup(build->context,
													  source->key_column);
}

/*
 * Finds the first table or partition that lacks its index, or what is left to
 * be done when none does.
 */
static char *
find_statement(Build *build, const DbOptSource *source)
{
	Relation	rel;
	List	   *missing;
	char	   *statement = NULL;

	if (!ConditionalLockRelationOid(source->relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table \"%s\" is locked",
						get_rel_name(source->relid))));
	rel = try_table_open(source->relid, NoLock);
	if (rel == NULL)
		return NULL;
	missing = dbopt_log_index_missing(rel, source->key_column);
	if (missing == NIL)
		statement = dbopt_log_index_completion(rel, source->key_column);
	table_close(rel, NoLock);
	if (missing == NIL)
		return statement;
	check_not_busy(linitial_oid(missing));
	note_table(build, source, linitial_oid(missing));
	return statement_for(linitial_oid(missing), source->key_column);
}

/*
 * In a transaction of its own.  When nothing is left to do, the source's row
 * says so: not everything that completes an index tells the scheduler.
 */
static void
plan_step(Build *build)
{
	const DbOptConfig *config;
	DbOptSource *source;

	dbopt_exec_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	config = dbopt_config_look();
	source = dbopt_config_source(config, build->source_id);
	build->statement = NULL;
	if (source != NULL && source->building && !config->paused)
	{
		build->statement = find_statement(build, source);
		if (build->statement == NULL)
			dbopt_source_refresh(build->source_id);
	}
	if (build->statement != NULL)
		build->statement = MemoryContextStrdup(build->context,
											   build->statement);
	PopActiveSnapshot();
	commit(build);
}

/* Does it run in one transaction, as those on partitioned tables do? */
static bool
is_plain(Node *statement)
{
	return IsA(statement, AlterTableStmt) ||
		(IsA(statement, IndexStmt) && !((IndexStmt *) statement)->concurrent);
}

/* Others wait behind who waits for a lock, but for concurrent statements. */
static void
limit_waiting(Node *statement)
{
	SetConfigOption("lock_timeout", is_plain(statement) ? LOCK_TIMEOUT : "0",
					PGC_USERSET, PGC_S_SESSION);
}

static Oid
owner_of(const RangeVar *name)
{
	Relation	rel = relation_openrv(name, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, AccessShareLock);
	return owner;
}

static void
run_statement(Build *build, Node *statement)
{
	PlannedStmt *planned = makeNode(PlannedStmt);

	planned->commandType = CMD_UTILITY;
	planned->utilityStmt = statement;
	ProcessUtility(planned, build->statement, false, PROCESS_UTILITY_TOPLEVEL,
				   NULL, NULL, None_Receiver, NULL);
}

static void
run_alteration(Build *build, AlterTableStmt *statement)
{
	DbOptOwnerScope scope;
	Oid			owner = owner_of(statement->relation);

	if (owner == GetUserId())
	{
		run_statement(build, (Node *) statement);
		return;
	}
	dbopt_owner_switch(&scope, owner, SECURITY_LOCAL_USERID_CHANGE |
					   SECURITY_RESTRICTED_OPERATION);
	run_statement(build, (Node *) statement);
	dbopt_owner_switch_back(&scope);
}

/* It commits as often as it likes: its parse tree has to outlive that. */
static void
run_step(Build *build)
{
	Node	   *statement =
	linitial_node(RawStmt, pg_parse_query(build->statement))->stmt;

	limit_waiting(statement);
	dbopt_exec_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(build->context);
	if (IsA(statement, AlterTableStmt))
		run_alteration(build, (AlterTableStmt *) statement);
	else
		run_statement(build, statement);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	commit(build);
}

static void
build_all(void *arg)
{
	Build	   *build = arg;

	for (plan_step(build); build->statement != NULL; plan_step(build))
	{
		run_step(build);
		build->built = true;
	}
}

/* Tells why in the source's row. */
static void
note_failure(void *arg)
{
	Build	   *build = arg;
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	dbopt_exec_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(build->source_id));
	dbopt_owner_bind_text(&args, build->failure.message);
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_source"
								  " SET build_failure = $2"
								  " WHERE source_id = $1"), &args);
	dbopt_owner_end(&scope);
	dbopt_source_refresh(build->source_id);
	PopActiveSnapshot();
	commit(build);
}

static void
log_build(const Build *build, const char *message)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_INDEX,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.message = message,
		.sqlstate = build->failure.sqlstate[0] != '\0' ?
		build->failure.sqlstate : NULL,
		.duration = GetCurrentTimestamp() - build->since
	};

	dbopt_log_line(&line);
}

static void
build_failed(Build *build, DbOptJobResult *result)
{
	DbOptFailure ignored;

	log_build(build, psprintf("the log index of source %d could not be built: %s",
							  build->source_id,
							  dbopt_log_error_text(build->failure.sqlstate,
												   build->failure.message)));
	result->outcome = DBOPT_JOB_FAILED;
	(void) dbopt_exec_guard(note_failure, build, &ignored);
}

void
dbopt_log_build_run(const DbOptJob *job, DbOptJobResult *result)
{
	MemoryContext previous = CurrentMemoryContext;
	Build		build = {.source_id = job->source_id};
	bool		done;

	memset(result, 0, sizeof(*result));
	build.context = AllocSetContextCreate(TopMemoryContext, "dbopt log index",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(build.context);
	build.leftovers.context = build.context;
	pin_settings();
	build.since = GetCurrentTimestamp();
	done = dbopt_exec_guard(build_all, &build, &build.failure);
	if (dbopt_session_dismissed())
	{
		if (OidIsValid(build.leftovers.relid))
			dbopt_leave(dbopt_log_leftovers_drop, &build.leftovers,
						psprintf("the log index of source %d",
								 build.source_id));
	}
	else if (!done)
		build_failed(&build, result);
	else if (build.built)
		log_build(&build, psprintf("the log index of source %d was built",
								   build.source_id));
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(build.context);
}
