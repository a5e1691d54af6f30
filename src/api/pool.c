/*
 * pool.c
 *		The session pool: SQL functions that report on it.
 *
 * Run by backends.  Everything is in shared memory, copied out under
 * dbopt_shared->lock; nothing is read from a table.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/guc.h"
#include "state/pool_load.h"
#include "state/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_pool_stats);
PG_FUNCTION_INFO_V1(dbopt_pool_sessions);
PG_FUNCTION_INFO_V1(dbopt_pool_events);
PG_FUNCTION_INFO_V1(dbopt_connection_stats);

/*
 * dbopt_pool_stats() RETURNS record
 */
Datum
dbopt_pool_stats(PG_FUNCTION_ARGS)
{
	DbOptPoolLimits limits = dbopt_pool_limits();
	Datum		values[9];
	bool		nulls[9] = {false};
	DbOptPoolLoad load;
	TupleDesc	desc;

	dbopt_require_preload();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	dbopt_pool_load(MyDatabaseId, &load);

	values[0] = CStringGetTextDatum(dbopt_environment_name());
	values[1] = Int32GetDatum(load.used);
	values[2] = Int32GetDatum(load.free);
	values[3] = Int32GetDatum(load.total);
	values[4] = Int32GetDatum(load.waiting);
	values[5] = Int32GetDatum(limits.min);
	values[6] = Int32GetDatum(limits.max);
	values[7] = Float8GetDatum(load.utilization);
	values[8] = CStringGetTextDatum(dbopt_health_name(load.health));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* All sessions of this database, palloc'd. */
static DbOptSession *
copy_sessions(int *count)
{
	DbOptSession *copies = palloc(dbopt_shared->max_sessions *
								  sizeof(DbOptSession));

	*count = 0;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid == MyDatabaseId)
			copies[(*count)++] = *session;
	}
	LWLockRelease(dbopt_shared->lock);
	return copies;
}

/* A handler's name from its slot; NULL when it has none. */
static char *
handler_name(int32 handler_id)
{
	DbOptHandlerState state;

	if (!dbopt_handler_copy(MyDatabaseId, handler_id, &state))
		return NULL;
	return pstrdup(NameStr(state.name));
}

static void
put_session(ReturnSetInfo *result, const DbOptSession *session)
{
	static const char *const states[] = {
		[DBOPT_SESSION_FREE] = "free",
		[DBOPT_SESSION_STARTING] = "starting",
		[DBOPT_SESSION_IDLE] = "idle",
		[DBOPT_SESSION_BUSY] = "busy",
		[DBOPT_SESSION_STOPPING] = "stopping"
	};
	static const char *const jobs[] = {
		[DBOPT_JOB_NONE] = "none",
		[DBOPT_JOB_DELIVER] = "deliver",
		[DBOPT_JOB_CHUNK] = "leftover",
		[DBOPT_JOB_RETRY] = "retry",
		[DBOPT_JOB_SUSPECTS] = "suspects",
		[DBOPT_JOB_INDEX] = "index",
		[DBOPT_JOB_LOG_INDEX] = "log index",
		[DBOPT_JOB_SQL] = "sql"
	};
	bool		busy = session->state == DBOPT_SESSION_BUSY;
	char	   *handler = busy && session->job.handler_id > 0 ?
	handler_name(session->job.handler_id) : NULL;
	char	   *role = GetUserNameFromId(session->roleid, true);
	Datum		values[7];
	bool		nulls[7] = {false};

	values[0] = Int32GetDatum(session->pid);
	nulls[0] = session->pid == 0;
	nulls[1] = role == NULL;
	if (role != NULL)
		values[1] = CStringGetTextDatum(role);
	values[2] = CStringGetTextDatum(states[session->state]);
	nulls[3] = !busy;
	if (busy)
		values[3] = CStringGetTextDatum(jobs[session->job.kind]);
	nulls[4] = handler == NULL;
	if (handler != NULL)
		values[4] = CStringGetTextDatum(handler);
	values[5] = TimestampTzGetDatum(session->since);
	values[6] = Int64GetDatum((int64) session->jobs_done);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * dbopt_pool_sessions() RETURNS SETOF record
 */
Datum
dbopt_pool_sessions(PG_FUNCTION_ARGS)
{
	DbOptSession *sessions;
	int			count;

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	sessions = copy_sessions(&count);
	for (int i = 0; i < count; i++)
		put_session((ReturnSetInfo *) fcinfo->resultinfo, &sessions[i]);
	return (Datum) 0;
}

/*
 * dbopt_pool_events() RETURNS SETOF record
 */
Datum
dbopt_pool_events(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		[DBOPT_POOL_ACQUIRE_REQUEST] = "acquireRequest",
		[DBOPT_POOL_ACQUIRE_SUCCESS] = "acquireSuccess",
		[DBOPT_POOL_ACQUIRE_FAIL] = "acquireFail",
		[DBOPT_POOL_RELEASE] = "release",
		[DBOPT_POOL_CREATE_REQUEST] = "createRequest",
		[DBOPT_POOL_CREATE_SUCCESS] = "createSuccess",
		[DBOPT_POOL_CREATE_FAIL] = "createFail",
		[DBOPT_POOL_DESTROY_REQUEST] = "destroyRequest",
		[DBOPT_POOL_DESTROY_SUCCESS] = "destroySuccess",
		[DBOPT_POOL_DESTROY_FAIL] = "destroyFail",
		[DBOPT_POOL_ERROR] = "error"
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		counts[DBOPT_POOL_EVENTS] = {0};
	DbOptDatabase *database;

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	for (int i = 0; i < DBOPT_POOL_EVENTS && database != NULL; i++)
		counts[i] = pg_atomic_read_u64(&database->pool_events[i]);
	LWLockRelease(dbopt_shared->lock);

	for (int i = 0; i < DBOPT_POOL_EVENTS; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false};

		values[0] = CStringGetTextDatum(names[i]);
		values[1] = Int64GetDatum((int64) counts[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}

/* ---- as applications know them ------------------------------------------- */

/* How long callers waited; and sessions that are starting. */
static int
copy_waits(DbOptHistogram *waits, double *total)
{
	DbOptDatabase *database;
	int			starting = 0;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid == MyDatabaseId &&
			session->state == DBOPT_SESSION_STARTING)
			starting++;
	}
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
	{
		*waits = database->acquire_times;
		*total = (double) database->acquire_total;
	}
	LWLockRelease(dbopt_shared->lock);
	return starting;
}

/*
 * dbopt_connection_stats() RETURNS record
 */
Datum
dbopt_connection_stats(PG_FUNCTION_ARGS)
{
	DbOptHistogram waits = {{0}};
	DbOptHandlerState breaker = {0};
	DbOptPoolLoad load;
	double		count = 0;
	double		total = 0;
	int			starting;
	Datum		values[9];
	bool		nulls[9] = {false};
	TupleDesc	desc;

	dbopt_require_preload();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	dbopt_pool_load(MyDatabaseId, &load);
	starting = copy_waits(&waits, &total);
	(void) dbopt_handler_copy(MyDatabaseId, 0, &breaker);
	for (int i = 0; i < DBOPT_HISTOGRAM_BUCKETS; i++)
		count += (double) waits.buckets[i];

	values[0] = Int32GetDatum(load.used);
	values[1] = Int32GetDatum(load.free);
	values[2] = Int32GetDatum(load.waiting);
	values[3] = Int32GetDatum(starting);
	values[4] = Float8GetDatum(load.utilization);
	values[5] = CStringGetTextDatum(dbopt_health_name(load.health));
	values[6] = CStringGetTextDatum(dbopt_breaker_state_name(breaker.breaker.state));
	nulls[7] = nulls[8] = count == 0;
	values[7] = Float8GetDatum(total / Max(count, 1) / 1000);
	values[8] = Float8GetDatum(dbopt_histogram_quantile(&waits, 0.99) / 1000);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
