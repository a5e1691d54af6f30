/*
 * index_build.c
 *		The statements that make, rename and drop indexes.
 *
 * Run by backends and pool sessions.  They go the way of a statement that a
 * person types, with its checks, its event triggers and its log entry, but
 * from a parse tree: no name is ever read as SQL.  Whoever runs them, what a
 * definition says is analyzed as the table's owner.
 *
 * What runs CONCURRENTLY must not be in a transaction block, and commits
 * several transactions: what it works on lives in the caller's memory context.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "common/hashfn.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/index_settings.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "parser/parse_utilcmd.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* ---- statements ---------------------------------------------------------- */

static void
run(Node *statement, const char *source, ProcessUtilityContext context)
{
	PlannedStmt *planned = makeNode(PlannedStmt);

	planned->commandType = CMD_UTILITY;
	planned->utilityStmt = statement;
	ProcessUtility(planned, source, false, context, NULL, NULL,
				   None_Receiver, NULL);
}

/* A statement of its own, which may commit. */
static void
run_alone(Node *statement, const char *source)
{
	MemoryContext context = CurrentMemoryContext;

	dbopt_exec_begin();
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	run(statement, source, PROCESS_UTILITY_TOPLEVEL);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/*
 * CREATE INDEX on a table that is locked, analyzed as the table's owner: a
 * constant of a type that the owner has made runs functions of his, and who
 * builds may be a superuser.
 */
static IndexStmt *
statement_for(const DbOptIndexTarget *target, Oid relid, const char *name)
{
	IndexStmt  *statement = copyObject(target->statement);
	Relation	rel = relation_open(relid, NoLock);
	DbOptIndexScope scope;

	statement->idxname = pstrdup(name);
	statement->relation =
		makeRangeVar(get_namespace_name(RelationGetNamespace(rel)),
					 pstrdup(RelationGetRelationName(rel)), -1);
	dbopt_index_scope_begin(&scope, rel->rd_rel->relowner);
	statement = transformIndexStmt(relid, statement, target->source);
	dbopt_index_scope_end(&scope);
	relation_close(rel, NoLock);
	return statement;
}

Oid
dbopt_index_create(const DbOptIndexTarget *target, const char *name)
{
	Oid			schema = get_rel_namespace(target->relid);
	int			guc_level = NewGUCNestLevel();

	dbopt_index_settings_pin();
	LockRelationOid(target->relid, ShareLock);
	run((Node *) statement_for(target, target->relid, name), target->source,
		PROCESS_UTILITY_QUERY);
	AtEOXact_GUC(false, guc_level);
	CommandCounterIncrement();
	return get_relname_relid(name, schema);
}

bool
dbopt_index_create_concurrently(const DbOptIndexTarget *target, Oid relid,
								const char *name)
{
	MemoryContext context = CurrentMemoryContext;
	bool		there;

	dbopt_exec_begin();
	MemoryContextSwitchTo(context);
	PushActiveSnapshot(GetTransactionSnapshot());
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	there = get_rel_relkind(relid) != '\0';
	if (!there && relid == target->relid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("a table was dropped while index \"%s\" was being built",
						target->row->name)));
	if (there)
	{
		IndexStmt  *statement = statement_for(target, relid, name);

		statement->concurrent = true;
		run((Node *) statement, target->source, PROCESS_UTILITY_TOPLEVEL);
	}
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return there;
}

static DropStmt *
drop_statement(const char *schema, const char *name, bool concurrent)
{
	DropStmt   *statement = makeNode(DropStmt);

	statement->removeType = OBJECT_INDEX;
	statement->objects =
		list_make1(list_make2(makeString(pstrdup(schema)),
							  makeString(pstrdup(name))));
	statement->behavior = DROP_RESTRICT;
	statement->missing_ok = true;
	statement->concurrent = concurrent;
	return statement;
}

void
dbopt_index_drop_concurrently(const char *schema, const char *name)
{
	run_alone((Node *) drop_statement(schema, name, true),
			  "DROP INDEX CONCURRENTLY");
}

/* The caller's transaction is committed before and after. */
void
dbopt_index_drop_here(const char *schema, const char *name)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	run((Node *) drop_statement(schema, name, true),
		"DROP INDEX CONCURRENTLY", PROCESS_UTILITY_TOPLEVEL);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
}

void
dbopt_index_drop(Oid index)
{
	run((Node *) drop_statement(get_namespace_name(get_rel_namespace(index)),
								get_rel_name(index), false),
		"DROP INDEX", PROCESS_UTILITY_QUERY);
	CommandCounterIncrement();
}

void
dbopt_index_swap(Oid new, Oid old, const char *name, const char *old_name)
{
	if (OidIsValid(old))
		RenameRelationInternal(old, old_name, false, true);
	CommandCounterIncrement();
	RenameRelationInternal(new, name, false, true);
	CommandCounterIncrement();
}

/* ---- names --------------------------------------------------------------- */

/* Declared names never begin like this; the hash tells cut names apart. */
static char *
marked_name(const char *mark, const char *name)
{
	char		prefix[32];
	int			length = strlen(name);

	snprintf(prefix, sizeof(prefix), "dbopt_%s_%08x_", mark,
			 hash_bytes((const unsigned char *) name, length));
	length = pg_mbcliplen(name, length, NAMEDATALEN - 1 - strlen(prefix));
	return psprintf("%s%.*s", prefix, length, name);
}

char *
dbopt_index_new_name(const char *name)
{
	return marked_name("new", name);
}

char *
dbopt_index_old_name(const char *name)
{
	return marked_name("old", name);
}

/* Cut, names of two partitions or two indexes would be the same. */
static char *
part_name(Oid part, const char *name)
{
	char	   *whole = psprintf("%s_%s", get_rel_name(part), name);
	int			length = strlen(whole);
	char		hash[9];

	if (length < NAMEDATALEN)
		return whole;
	snprintf(hash, sizeof(hash), "%08x",
			 hash_bytes((const unsigned char *) whole, length));
	return makeObjectName(get_rel_name(part), name, hash);
}

List *
dbopt_index_part_names(Oid part, const char *name)
{
	return list_make3(part_name(part, name),
					  part_name(part, dbopt_index_new_name(name)),
					  part_name(part, dbopt_index_old_name(name)));
}

List *
dbopt_index_part_cut_names(Oid part, const char *name)
{
	char	   *table = get_rel_name(part);

	return list_make2(makeObjectName(table, name, NULL),
					  makeObjectName(table, dbopt_index_new_name(name), NULL));
}
