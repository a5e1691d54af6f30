/*
 * index_ensure.c
 *		dbopt_ensure_indexes() and dbopt_drop_indexes().
 *
 * Run by whoever owns the tables, or by a superuser for all of them.  Both are
 * procedures: what they have decided commits before they wait, and they wait
 * without a snapshot, which a concurrent build would wait for.
 */
#include "postgres.h"

#include "api/primary.h"
#include "catalog/index.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/index_inline.h"
#include "engine/index_leftover.h"
#include "engine/index_row.h"
#include "engine/index_state.h"
#include "engine/index_target.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/guc.h"
#include "state/news.h"
#include "state/shmem.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define FIRST_WAIT_MS	10
#define LONGEST_WAIT_MS	500

PG_FUNCTION_INFO_V1(dbopt_ensure_indexes);

static bool
in_transaction_block(FunctionCallInfo fcinfo)
{
	return fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;
}

/* A table that was named must be the caller's. */
static void
check_table(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!dbopt_owns_class(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
}

/* Is this one meant by the call, and the caller's to have built? */
static bool
is_meant(const DbOptIndexRow *row, Oid table)
{
	Oid			relid = dbopt_index_table_find(row->table_name);

	if (!OidIsValid(relid) || (OidIsValid(table) && relid != table))
		return false;
	return dbopt_owns_class(relid, GetUserId());
}

/*
 * Nothing is to be built, but something may be left of earlier builds; and what
 * is locked has been judged by its name alone, and is left to the pool, which
 * waits.
 */
static void
settle_valid(const DbOptIndexTarget *target)
{
	DbOptIndexState *state;

	if (target->locked || (dbopt_shared != NULL &&
						   dbopt_index_leftovers(target) != NIL))
	{
		(void) dbopt_index_provide(target);
		return;
	}
	state = dbopt_index_state_lock(target->row->name);
	if (state->progress != DBOPT_INDEX_FAILED)
		return;
	dbopt_index_state_settle(state);
	dbopt_index_state_write(state);
}

static bool
provide(const DbOptIndexRow *row, Oid table)
{
	DbOptIndexTarget target;

	CHECK_FOR_INTERRUPTS();
	if (!is_meant(row, table))
		return false;
	dbopt_index_examine(row, &target);
	if (target.condition == DBOPT_INDEX_INAPPLICABLE)
		return false;
	if (target.condition == DBOPT_INDEX_VALID)
		settle_valid(&target);
	else if (!dbopt_index_provide(&target))
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" cannot be built: dbopt is not preloaded",
						row->name),
				 errdetail("Without a pool nothing is built but what small tables lack to which nobody is writing."),
				 errhint("Add dbopt to the setting shared_preload_libraries, restart the server, and call dbopt_ensure_indexes() again.")));
	return true;
}

/* ---- waiting ------------------------------------------------------------- */

static bool
is_pending(List *names)
{
	List	   *states = dbopt_index_states();
	ListCell   *cell;

	foreach(cell, names)
	{
		DbOptIndexState *state = dbopt_index_state_find(states, lfirst(cell));

		if (state != NULL && (state->progress == DBOPT_INDEX_QUEUED ||
							  state->progress == DBOPT_INDEX_BUILDING))
			return true;
	}
	return false;
}

static void
wait_for(List *names)
{
	long		ms = FIRST_WAIT_MS;

	while (is_pending(names))
	{
		InvalidateCatalogSnapshot();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		ms = Min(ms * 2, LONGEST_WAIT_MS);
	}
}

static void
report(List *names)
{
	List	   *states = dbopt_index_states();
	ListCell   *cell;

	foreach(cell, names)
	{
		DbOptIndexState *state = dbopt_index_state_find(states, lfirst(cell));

		if (state != NULL && state->progress == DBOPT_INDEX_FAILED)
			ereport(WARNING,
					(errmsg("index \"%s\" could not be built: %s",
							state->name, state->error_message),
					 errhint("Mend the cause and call dbopt_ensure_indexes() again.")));
	}
}

/*
 * dbopt_ensure_indexes(table_name regclass, wait boolean)
 */
Datum
dbopt_ensure_indexes(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	bool		wait = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	bool		atomic = in_transaction_block(fcinfo);
	List	   *names = NIL;
	ListCell   *cell;

	dbopt_require_primary(fcinfo);
	if (wait && atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for indexes inside a transaction block"),
				 errdetail("Nothing is built before the transaction commits.")));
	if (wait)
		dbopt_require_preload();
	if (OidIsValid(table))
		check_table(table);
	if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	foreach(cell, dbopt_index_rows())
	{
		DbOptIndexRow *row = lfirst(cell);

		if (provide(row, table))
			names = lappend(names, row->name);
		if (!atomic)
			SPI_commit();
	}
	if (wait)
		wait_for(names);
	if (wait || dbopt_shared == NULL)
		report(names);
	SPI_finish();
	PG_RETURN_VOID();
}
