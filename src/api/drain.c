/*
 * drain.c
 *		dbopt_drain(): wait until nothing is due or in flight.
 *
 * Run by backends.  The scheduler publishes in shared memory what it knows to
 * be waiting; it is asked for a look at everything that was committed before
 * the call.  The queue has the last word, since a retry may be due later.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/news.h"
#include "state/shmem.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_drain);

#define FIRST_WAIT_MS	1
#define LONGEST_WAIT_MS	50

/* Rounds after which the scheduler has seen all that was there before. */
#define ROUNDS_NEEDED	2

/* What shared memory says about this database. */
typedef struct DrainView
{
	bool		scheduled;		/* a scheduler is running */
	bool		idle;			/* nothing waits to be run, nothing runs */
	uint64		rounds;
	uint32		generation;
} DrainView;

static bool
has_news(DbOptDatabase *database)
{
	bool		found;

	SpinLockAcquire(&database->news_mutex);
	found = database->news.count > 0 || database->news.many ||
		database->news.config;
	SpinLockRelease(&database->news_mutex);
	return found;
}

static DrainView
look(void)
{
	DrainView	view = {0};
	DbOptDatabase *database;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
	{
		view.scheduled = database->scheduler_pid != 0;
		view.generation = database->generation;
		view.rounds = pg_atomic_read_u64(&database->rounds);
		view.idle = pg_atomic_read_u32(&database->active) == 0 &&
			pg_atomic_read_u32(&database->pending) == 0 &&
			!has_news(database);
	}
	LWLockRelease(dbopt_shared->lock);
	return view;
}

/*
 * When the first retry is due of a handler that is not held back;
 * PG_INT64_MAX: there is none.
 */
static TimestampTz
first_retry(void)
{
	DbOptOwnerScope scope;
	TimestampTz first;
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_execute(dbopt_sql("SELECT min(q.next_retry_at)"
								  " FROM @extschema@.dbopt_retry_queue q"
								  " JOIN @extschema@.dbopt_handler h USING (handler_id)"
								  " JOIN @extschema@.dbopt_source s USING (source_id)"
								  " WHERE NOT h.paused AND h.state = 'ready'"
								  " AND s.state = 'ready'"), NULL);
	first = DatumGetTimestampTz(dbopt_owner_value(0, 1, &isnull));
	if (isnull)
		first = PG_INT64_MAX;
	dbopt_owner_end(&scope);
	return first;
}

static void
wait_for(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static long
next_wait(long ms, TimestampTz until)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													   until);

	return Max(Min(Min(ms * 2, LONGEST_WAIT_MS), left), 1);
}

/* Waits until idle and seen to be so, or the deadline; true when idle. */
static bool
drain(TimestampTz deadline)
{
	DrainView	start = look();
	long		ms = FIRST_WAIT_MS;

	for (;;)
	{
		DrainView	view = look();
		TimestampTz retry = PG_INT64_MAX;

		if (view.generation != start.generation)
			start = view;
		if (!view.idle)
			ms = Min(ms, LONGEST_WAIT_MS);
		else if (view.scheduled && view.rounds >= start.rounds + ROUNDS_NEEDED)
		{
			retry = first_retry();
			if (retry == PG_INT64_MAX)
				return true;
			if (retry > deadline)
				return false;
		}
		else
			dbopt_scheduler_wake(MyDatabaseId);
		if (GetCurrentTimestamp() >= deadline)
			return false;
		wait_for(ms);
		ms = next_wait(ms, deadline);
	}
}

/*
 * dbopt_drain(timeout interval) RETURNS boolean
 *
 * False when the time is up, or a retry is due only after it.
 */
Datum
dbopt_drain(PG_FUNCTION_ARGS)
{
	Datum		deadline;

	dbopt_require_preload();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("timeout must not be null")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for events in a transaction of this isolation level"),
				 errhint("Use READ COMMITTED.")));
	deadline = DirectFunctionCall2(timestamptz_pl_interval,
								   TimestampTzGetDatum(GetCurrentTimestamp()),
								   PG_GETARG_DATUM(0));
	if (dbopt_config_get()->sources == NIL)
		PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(drain(DatumGetTimestampTz(deadline)));
}
