/*
 * drain.c
 *		dbopt_drain(): wait until nothing is due or in flight.
 *
 * Run by backends.  The scheduler publishes in shared memory what it knows to
 * be waiting; it is asked for a look at everything that was committed before
 * the call.  The tables have the last word, since a retry may be due later, and
 * an open circuit breaker keeps events waiting that are not due.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/arguments.h"
#include "api/primary.h"
#include "catalog/pg_type_d.h"
#include "engine/backlog.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/exec.h"
#include "engine/owner_spi.h"
#include "engine/progress.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/news.h"
#include "state/pool.h"
#include "state/shmem.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
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
 * When the first retry is due of a handler that is not held back; false: there
 * is none.
 */
static bool
first_retry(TimestampTz *first)
{
	DbOptOwnerScope scope;
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_execute(dbopt_sql("SELECT min(q.next_retry_at)"
								  " FROM @extschema@.dbopt_retry_queue q"
								  " JOIN @extschema@.dbopt_handler h USING (handler_id)"
								  " JOIN @extschema@.dbopt_source s USING (source_id)"
								  " WHERE NOT h.paused AND h.state = 'ready'"
								  " AND s.state = 'ready'"), NULL);
	*first = DatumGetTimestampTz(dbopt_owner_value(0, 1, &isnull));
	dbopt_owner_end(&scope);
	return !isnull;
}

/* The handler that a cursor hands out to; NULL: nobody, or one held back. */
static DbOptHandler *
active_handler(const DbOptConfig *config, const DbOptCursor *cursor)
{
	DbOptSource *source = dbopt_config_source(config, cursor->source_id);
	DbOptHandler *handler;

	if (source == NULL || !source->usable)
		return NULL;
	handler = dbopt_cursor_handler(config, cursor);
	return handler != NULL && handler->usable && !handler->paused ?
		handler : NULL;
}

static bool
has_chunk(List *chunks, int32 cursor_id)
{
	ListCell   *cell;

	foreach(cell, chunks)
	{
		if (((DbOptChunkId *) lfirst(cell))->cursor_id == cursor_id)
			return true;
	}
	return false;
}

/* What cannot be read at present is for the next look. */
static bool
cursor_waits(const DbOptSource *source, const DbOptCursor *cursor)
{
	DbOptBacklogRead *reading = dbopt_backlog_read_begin(source,
														 DBOPT_DOUBLED_RAISE);
	DbOptWaiting waiting = {0};

	if (reading != NULL)
		(void) dbopt_waiting_count(reading, cursor, &waiting);
	dbopt_backlog_read_end(reading);
	return waiting.events > 0;
}

/*
 * Events behind a cursor, or handed out and left over: the scheduler does not
 * call them due while a circuit breaker is open.
 */
static bool
something_waits(const DbOptConfig *config)
{
	List	   *chunks = dbopt_chunks_load();
	ListCell   *cell;

	foreach(cell, dbopt_cursors_load())
	{
		DbOptCursor *cursor = lfirst(cell);
		DbOptHandler *handler = active_handler(config, cursor);

		CHECK_FOR_INTERRUPTS();
		if (handler == NULL)
			continue;
		if (has_chunk(chunks, cursor->cursor_id) ||
			cursor_waits(handler->source, cursor))
			return true;
	}
	return false;
}

/* What the tables say once shared memory says that nothing is due. */
typedef enum DrainState
{
	DRAIN_DONE,
	DRAIN_WAITING,
	DRAIN_TOO_LATE				/* the first retry comes after the deadline */
} DrainState;

typedef struct TableLook
{
	TimestampTz deadline;
	DrainState	state;			/* result */
} TableLook;

static void
read_tables(void *arg)
{
	TableLook  *look = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "dbopt drain",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	const DbOptConfig *config = dbopt_config_get();

	look->state = DRAIN_DONE;
	if (!config->paused)
	{
		TimestampTz retry;

		if (something_waits(config))
			look->state = DRAIN_WAITING;
		else if (first_retry(&retry))
			look->state = retry > look->deadline ? DRAIN_TOO_LATE :
				DRAIN_WAITING;
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
}

/*
 * Keeps no lock: it may be waited for by what is waited for, a handler that
 * changes its table for example.
 */
static DrainState
look_at_tables(TimestampTz deadline)
{
	TableLook	look = {.deadline = deadline};

	dbopt_exec_undone(read_tables, &look);
	return look.state;
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

/* Waits until nothing is left or the deadline is over; true for the first. */
static bool
drain(TimestampTz deadline)
{
	DrainView	start = look();
	long		ms = FIRST_WAIT_MS;

	for (;;)
	{
		DrainView	view = look();

		if (view.generation != start.generation)
			start = view;
		if (view.scheduled && view.idle &&
			view.rounds >= start.rounds + ROUNDS_NEEDED)
		{
			DrainState	state = look_at_tables(deadline);

			if (state != DRAIN_WAITING)
				return state == DRAIN_DONE;
		}
		else if (view.idle)
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
	dbopt_require_primary(fcinfo);
	if (dbopt_my_session != NULL && dbopt_my_session->job.kind != DBOPT_JOB_SQL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a handler cannot wait for events to be delivered"),
				 errdetail("It would wait for its own.")));
	dbopt_argument_require(fcinfo, 0, "timeout",
						   "Give the time to wait at most, such as '1 min'.");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for events in a transaction of this isolation level"),
				 errhint("Use READ COMMITTED.")));
	if (dbopt_news_noted())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for what this transaction has done itself"),
				 errdetail("Its events are delivered, and its changes count, when it has committed."),
				 errhint("Call dbopt_drain() in a transaction of its own.")));
	deadline = DirectFunctionCall2(timestamptz_pl_interval,
								   TimestampTzGetDatum(GetCurrentTimestamp()),
								   PG_GETARG_DATUM(0));
	if (dbopt_config_get()->sources == NIL)
		PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(drain(DatumGetTimestampTz(deadline)));
}
