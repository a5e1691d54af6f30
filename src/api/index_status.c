/*
 * index_status.c
 *		dbopt_index_status(): what is declared, held against the catalogue.
 *
 * Run by members of pg_monitor.  Sizes and counts are read as the extension's
 * owner; error texts, which may hold a key of the table, are shown to members
 * of the table's owner and of pg_read_all_stats only.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/index_state.h"
#include "engine/index_target.h"
#include "engine/owner_spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "state/shmem.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dbopt_index_status);

enum
{
	STATUS_NAME,
	STATUS_TABLE_NAME,
	STATUS_STATUS,
	STATUS_REASON,
	STATUS_SIZE_BYTES,
	STATUS_SCANS,
	STATUS_LAST_ERROR,
	STATUS_PROGRESS,
	STATUS_COLUMNS
};

typedef struct StatusRow
{
	Datum		values[STATUS_COLUMNS];
	bool		nulls[STATUS_COLUMNS];
	MemoryContext context;		/* for what outlives SPI */
} StatusRow;

static void
put_text(StatusRow *row, int column, const char *string)
{
	row->nulls[column] = string == NULL;
	if (string != NULL)
		row->values[column] = CStringGetTextDatum(string);
}

/*
 * What the pool is to do, or does, counts until the index is as declared.
 */
static const char *
status_name(const DbOptIndexTarget *target, const DbOptIndexState *state)
{
	static const char *const conditions[] = {
		[DBOPT_INDEX_VALID] = "valid",
		[DBOPT_INDEX_INVALID] = "invalid",
		[DBOPT_INDEX_DIFFERENT] = "different",
		[DBOPT_INDEX_MISSING] = "missing",
		[DBOPT_INDEX_INAPPLICABLE] = "inapplicable"
	};

	if (state == NULL || state->progress == DBOPT_INDEX_IDLE ||
		target->condition == DBOPT_INDEX_VALID ||
		target->condition == DBOPT_INDEX_INAPPLICABLE)
		return conditions[target->condition];
	return dbopt_index_progress_name(state->progress);
}

/* What the session that is building here does; valid while it is at it. */
typedef struct Build
{
	char		name[NAMEDATALEN];	/* empty: nobody is building */
	pid_t		pid;
} Build;

static Build
present_build(void)
{
	Build		build = {0};

	if (dbopt_shared == NULL)
		return build;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid == MyDatabaseId &&
			session->state == DBOPT_SESSION_BUSY &&
			session->job.kind == DBOPT_JOB_INDEX)
		{
			strlcpy(build.name, NameStr(session->job.index),
					sizeof(build.name));
			build.pid = session->pid;
		}
	}
	LWLockRelease(dbopt_shared->lock);
	return build;
}

/*
 * How far a build is, by what PostgreSQL shows of it: reading the table and
 * sorting are the first 70 per cent, validation is the rest; and which
 * processes it waits for.
 */
static void
put_build(StatusRow *row, pid_t pid)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	char	   *blockers;
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(pid));
	dbopt_owner_query("SELECT (SELECT CASE"
					  " WHEN phase LIKE 'building index%' THEN"
					  " 50.0 * blocks_done / greatest(blocks_total, 1) + 20.0 * tuples_done / greatest(tuples_total, 1)"
					  " WHEN phase = 'waiting for writers before validation' THEN 70"
					  " WHEN phase LIKE 'index validation: sc%index' THEN 70 + 10.0 * blocks_done / greatest(blocks_total, 1)"
					  " WHEN phase LIKE 'index validation: sort%' THEN 80"
					  " WHEN phase LIKE 'index validation%' THEN 80 + 15.0 * blocks_done / greatest(blocks_total, 1)"
					  " WHEN phase = 'waiting for old snapshots' THEN 95"
					  " ELSE 0 END FROM pg_stat_progress_create_index WHERE pid = $1)::float8,"
					  " (SELECT string_agg(DISTINCT format('%s (%s)', b, coalesce(a.usename, a.backend_type)), ', ')"
					  " FROM unnest(pg_blocking_pids($1)) b LEFT JOIN pg_stat_activity a ON a.pid = b)",
					  &args);
	row->values[STATUS_PROGRESS] = dbopt_owner_value(0, 1, &isnull);
	row->nulls[STATUS_PROGRESS] = isnull;
	blockers = dbopt_owner_text(0, 2);
	if (blockers != NULL)
		blockers = MemoryContextStrdup(row->context, blockers);
	dbopt_owner_end(&scope);
	if (blockers != NULL)
		put_text(row, STATUS_REASON, psprintf("it waits for process %s",
											  blockers));
}

static void
put_figures(StatusRow *row, Oid index)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(index));
	dbopt_owner_query("SELECT sum(pg_relation_size(i.oid))::bigint,"
					  " sum(pg_stat_get_numscans(i.oid))::bigint"
					  " FROM (SELECT $1 UNION SELECT relid FROM pg_partition_tree($1)) i (oid)",
					  &args);
	row->values[STATUS_SIZE_BYTES] = dbopt_owner_value(0, 1, &isnull);
	row->nulls[STATUS_SIZE_BYTES] = isnull;
	row->values[STATUS_SCANS] = dbopt_owner_value(0, 2, &isnull);
	row->nulls[STATUS_SCANS] = isnull;
	dbopt_owner_end(&scope);
}

/* Is neither the index nor a partition's part of it locked by others? */
static bool
is_free(Oid index)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(index, NoLock, NULL))
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
		return false;
	return true;
}

static bool
may_see_errors(Oid owner)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		(OidIsValid(owner) && has_privs_of_role(GetUserId(), owner));
}

static void
put_index(ReturnSetInfo *result, const DbOptIndexRow *declared,
		  const DbOptIndexState *state, const Build *build)
{
	DbOptIndexTarget target;
	StatusRow	row;
	bool		building = strcmp(build->name, declared->name) == 0;

	dbopt_index_examine(declared, &target);
	if (state != NULL && state->progress == DBOPT_INDEX_FAILED &&
		!dbopt_index_state_failed(state, declared))
		state = NULL;			/* it has failed at something else */
	if (building && target.condition == DBOPT_INDEX_INVALID)
		target.reason = NULL;	/* it is about to become valid */
	memset(row.nulls, true, sizeof(row.nulls));
	row.context = CurrentMemoryContext;
	put_text(&row, STATUS_NAME, declared->name);
	put_text(&row, STATUS_TABLE_NAME, declared->table_name);
	put_text(&row, STATUS_STATUS, status_name(&target, state));
	put_text(&row, STATUS_REASON, target.reason);
	if (building)
		put_build(&row, build->pid);
	if (OidIsValid(target.index) && !target.locked && is_free(target.index))
		put_figures(&row, target.index);
	if (state != NULL && may_see_errors(target.owner))
		put_text(&row, STATUS_LAST_ERROR, state->error_message);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values,
						 row.nulls);
}

/*
 * dbopt_index_status() RETURNS SETOF record
 */
Datum
dbopt_index_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Build		build = present_build();
	List	   *states;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	states = dbopt_index_states();
	foreach(cell, dbopt_index_rows())
	{
		DbOptIndexRow *declared = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		put_index(result, declared,
				  dbopt_index_state_find(states, declared->name), &build);
	}
	return (Datum) 0;
}
