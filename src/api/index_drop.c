/*
 * index_drop.c
 *		dbopt_drop_indexes(): drops what dbopt has built, CONCURRENTLY.
 *
 * Run by whoever owns the tables, or by a superuser for all of them, at top
 * level: each DROP INDEX CONCURRENTLY is a statement of its own.  An index that
 * dbopt did not build stays, whatever its name.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "api/ddl.h"
#include "api/primary.h"
#include "catalog/index.h"
#include "catalog/pg_class_d.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/index_build.h"
#include "engine/index_own.h"
#include "engine/index_replace.h"
#include "engine/index_state.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dbopt_drop_indexes);

/* Its schema and name, if it is to be dropped; false else. */
static bool
is_meant(const DbOptIndexState *state, Oid table, Oid *index)
{
	Oid			relid;

	*index = dbopt_index_own(state);
	if (!OidIsValid(*index))
		return false;
	relid = IndexGetRelation(*index, true);
	return OidIsValid(relid) && (!OidIsValid(table) || relid == table) &&
		dbopt_owns_class(relid, GetUserId());
}

static void
forget(const char *name)
{
	DbOptIndexState *state = dbopt_index_state_lock(name);

	state->built = false;
	state->index = InvalidOid;
	state->schema = NULL;
	state->definition = NULL;
	state->progress = DBOPT_INDEX_IDLE;
	dbopt_index_state_write(state);
}

/* What stands on it by now would keep it, and the others with it. */
static bool
is_needed(Oid index)
{
	Relation	rel = try_relation_open(index, AccessShareLock);
	const char *reason;

	if (rel == NULL)
		return true;
	reason = dbopt_index_needed(rel);
	if (reason != NULL)
		ereport(WARNING,
				(errmsg("index \"%s\" is not dropped: it %s",
						RelationGetRelationName(rel), reason)));
	relation_close(rel, AccessShareLock);
	return reason != NULL;
}

/* The next statement begins in a transaction of its own. */
static void
next_transaction(MemoryContext context)
{
	CommitTransactionCommand();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
}

static void
drop(const DbOptIndexState *state, Oid index, MemoryContext context)
{
	char	   *schema = get_namespace_name(get_rel_namespace(index));
	char	   *name = get_rel_name(index);

	if (get_rel_relkind(index) == RELKIND_PARTITIONED_INDEX)
	{
		DbOptDdlScope scope;

		PushActiveSnapshot(GetTransactionSnapshot());
		dbopt_ddl_begin(&scope);
		dbopt_index_drop(index);
		dbopt_ddl_end(&scope);
		PopActiveSnapshot();
	}
	else
		dbopt_index_drop_here(schema, name);
	MemoryContextSwitchTo(context);
	forget(state->name);
	next_transaction(context);
}

/* Not in a transaction block, nor in a function or another procedure. */
static void
require_top_level(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic ||
		SPI_inside_nonatomic_context())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("indexes cannot be dropped concurrently inside a transaction block"),
				 errhint("Use CALL as a statement of its own.")));
}

/*
 * dbopt_drop_indexes(table_name regclass)
 */
Datum
dbopt_drop_indexes(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	MemoryContext context = AllocSetContextCreate(PortalContext,
												  "dbopt indexes",
												  ALLOCSET_SMALL_SIZES);
	ListCell   *cell;

	dbopt_require_primary(fcinfo);
	require_top_level(fcinfo);
	if (OidIsValid(table) && !dbopt_owns_class(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(table));
	MemoryContextSwitchTo(context);
	ForgetPortalSnapshots();
	next_transaction(context);
	foreach(cell, dbopt_index_states())
	{
		Oid			index;

		CHECK_FOR_INTERRUPTS();
		if (is_meant(lfirst(cell), table, &index) && !is_needed(index))
			drop(lfirst(cell), index, context);
	}
	PG_RETURN_VOID();
}
