/*
 * session.c
 *		A pool session: a dynamic background worker that is logged in as a
 *		handler's role and runs one job after the other.
 *
 * Started by a scheduler, which has filled its slot.  It sleeps on its latch
 * until the slot is BUSY with a job or it is told to go; it goes by itself
 * when its scheduler has gone.  The slot is read and written under
 * dbopt_shared->lock, which is never held while a job runs.
 *
 * Whatever way the process ends, the exit callback gives back its slot and
 * what it held of its handler's breaker and counters.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "compat.h"
#include "engine/job.h"
#include "engine/latch_spin.h"
#include "engine/log_build.h"
#include "engine/pooled.h"
#include "engine/session.h"
#include "engine/session_failure.h"
#include "engine/session_signals.h"
#include "engine/worker.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/caller.h"
#include "state/circuit.h"
#include "state/database.h"
#include "state/departure.h"
#include "state/news.h"
#include "state/pool.h"
#include "state/solo.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef enum SessionOrder
{
	ORDER_WAIT,
	ORDER_RUN,
	ORDER_GO
} SessionOrder;

static DbOptWorkerTarget target;
static bool quiet = false;		/* see session_failure.h */

/* ---- coming and going ---------------------------------------------------- */

/*
 * Gives back what the breaker has admitted and nobody has reported, unless the
 * handler's slot has another owner by now.
 */
static void
give_back(const DbOptSession *session)
{
	if (session->admission.granted > 0 &&
		dbopt_handler_slot(session->handler_slot)->generation ==
		session->handler_generation)
		dbopt_circuit_abandon(session->handler_slot, &session->admission,
							  session->admission.granted);
}

/*
 * A slot has become free: those who found none may try again.  A database that
 * waits for its scheduler does until the launcher has started it.
 */
static void
wake_waiting_schedulers(void)
{
	int			i;

	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		DbOptDatabase *database = dbopt_database_slot(i);

		if (database->scheduler_pid != 0 &&
			pg_atomic_exchange_u32(&database->wants_session, 0) != 0)
			dbopt_process_wake(database->scheduler_procno);
	}
}

/*
 * Is the scheduler that started a session still there?
 */
static bool
scheduler_present(const DbOptSession *session)
{
	DbOptDatabase *database = dbopt_database_slot(session->database);

	return database->generation == session->database_generation &&
		database->scheduler_pid != 0;
}

static void
count(const DbOptSession *session, DbOptPoolEvent event)
{
	DbOptDatabase *database = dbopt_database_slot(session->database);

	if (database->dboid == session->dboid)
		pg_atomic_fetch_add_u64(&database->pool_events[event], 1);
}

/*
 * Runs when the process has left the ProcArray and holds no locks, so that
 * whoever waits for it to go may count connections then.  What may fail comes
 * last: a breaker that opens is logged.
 */
static void
session_exit(int code, Datum arg)
{
	DbOptSession *session = dbopt_my_session;
	DbOptSession held;
	bool		orphaned;
	bool		alone;

	if (session == NULL)
		return;
	dbopt_session_land();
	dbopt_my_session = NULL;
	held = *session;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (session->job.kind == DBOPT_JOB_SQL)
		dbopt_caller_lose(&session->job,
						  dbopt_session_has_begun(session->job.ticket));
	if (session->state == DBOPT_SESSION_BUSY)
		count(session, DBOPT_POOL_ERROR);
	dbopt_session_failure_tell(session);
	session->dboid = InvalidOid;
	session->state = DBOPT_SESSION_FREE;
	session->pid = 0;
	orphaned = !scheduler_present(session);
	alone = orphaned && session->job.kind == DBOPT_JOB_SUSPECTS;
	if (orphaned)
		dbopt_news_put_orphan(held.dboid);
	wake_waiting_schedulers();
	LWLockRelease(dbopt_shared->lock);
	if (alone)
		dbopt_solo_give_back(held.database);

	ConditionVariableBroadcast(&dbopt_shared->worker_gone);
	dbopt_scheduler_wake(held.dboid);
	give_back(&held);
}

/*
 * Takes the slot that the scheduler filled.  False: the session is no longer
 * wanted.
 */
static bool
attach_slot(Oid *dboid, Oid *roleid)
{
	DbOptSession *session;
	bool		wanted = false;

	on_shmem_exit(session_exit, (Datum) 0);
	target = dbopt_worker_target();
	session = dbopt_session_slot(target.slot);

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (session->generation == target.generation &&
		OidIsValid(session->dboid))
	{
		dbopt_my_session = session;
		session->pid = MyProcPid;
		session->procno = DBOPT_MY_PROC_NUMBER;
		wanted = session->state == DBOPT_SESSION_STARTING;
		quiet = session->quiet;
		*dboid = session->dboid;
		*roleid = session->roleid;
	}
	LWLockRelease(dbopt_shared->lock);
	return wanted;
}

/*
 * Runs a query, so that a session in which none can be run is never given a
 * job.
 */
static void
validate_session(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute("SELECT 1", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not run a query in a new session");
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Settings that hold for the session's whole life: as its defaults, so that
 * a reset returns to them.  ALTER ROLE ... SET role must not make it another
 * role's than the one that it was started for.
 */
static void
set_defaults(void)
{
	SetConfigOption("application_name", "dbopt session", PGC_USERSET,
					PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_USERSET, PGC_S_OVERRIDE);
	DBOPT_DISABLE_TRANSACTION_TIMEOUT();
}

/*
 * Before the transaction is rolled back, and others may run its events.  With
 * a code other than 0 and 1 the postmaster takes the end for a crash of the
 * server; by exit(), which PostgreSQL's own code never calls there, a handler
 * has given a code that is not known here.
 */
static void
note_departure(int code, Datum arg)
{
	if (dbopt_session_told_to_end() || !dbopt_departure_note())
		return;
	dbopt_departure_begin();
	if (code != 0 && code != 1)
	{
		shmem_exit(1);
		_exit(1);
	}
}

static void
connect_session(void)
{
	Oid			dboid;
	Oid			roleid;

	if (!attach_slot(&dboid, &roleid))
		proc_exit(0);
	dbopt_session_signals();
	dbopt_session_failure_watch(quiet);
	BackgroundWorkerInitializeConnectionByOid(dboid, roleid,
											  DBOPT_SESSION_FLAGS);
	before_shmem_exit(note_departure, (Datum) 0);
	set_defaults();
	validate_session();
	dbopt_session_failure_unwatch();
}

/* ---- jobs ---------------------------------------------------------------- */

/*
 * Do callers have to wait for the scheduler?  Else it need not hear at once that
 * a call is done: the next caller will find the session by itself, and so will
 * the next round.
 */
static bool
door_closed(const DbOptSession *session)
{
	DbOptDatabase *database = dbopt_database_slot(session->database);

	return !scheduler_present(session) ||
		pg_atomic_read_u32(&database->direct_calls) == 0;
}

void
dbopt_session_report_idle(const DbOptJobResult *result)
{
	DbOptSession *session = dbopt_my_session;
	DbOptDatabase *database = dbopt_database_slot(session->database);
	TimestampTz now = GetCurrentTimestamp();
	bool		told;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (result != NULL)
	{
		session->result = *result;
		session->jobs_done++;
		session->cpu = dbopt_cpu();
		count(session, DBOPT_POOL_RELEASE);
	}
	else if (database->dboid == session->dboid)
		dbopt_database_count_create(database, now - session->since);
	if (session->state == DBOPT_SESSION_STARTING ||
		session->state == DBOPT_SESSION_BUSY)
		session->state = DBOPT_SESSION_IDLE;
	session->since = now;
	told = result == NULL || session->job.kind != DBOPT_JOB_SQL;
	pg_atomic_write_u32(&session->unseen, told ? 1 : 0);
	told |= door_closed(session);
	LWLockRelease(dbopt_shared->lock);

	pgstat_report_activity(STATE_IDLE, NULL);
	if (told)
		dbopt_scheduler_wake(session->dboid);
}

/*
 * What a session is given that has been told to end, it does not begin with.
 */
static SessionOrder
next_order(DbOptJob *job)
{
	DbOptSession *session = dbopt_my_session;
	SessionOrder order = ORDER_WAIT;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	if (session->state == DBOPT_SESSION_BUSY && !ProcDiePending)
	{
		order = ORDER_RUN;
		*job = session->job;
		dbopt_session_serves(job->kind == DBOPT_JOB_SQL ? job->ticket : 0);
		QueryCancelPending = false; /* of the last job: callers cancel under
									 * the lock */
	}
	else if (session->state == DBOPT_SESSION_STOPPING || !scheduler_present(session))
		order = ORDER_GO;
	LWLockRelease(dbopt_shared->lock);
	return order;
}

/*
 * What pg_stat_activity shows of a job.
 */
static void
report_job(const DbOptJob *job)
{
	static const char *const activities[] = {
		[DBOPT_JOB_NONE] = "nothing",
		[DBOPT_JOB_DELIVER] = "delivering events",
		[DBOPT_JOB_CHUNK] = "delivering leftover events",
		[DBOPT_JOB_RETRY] = "retrying events",
		[DBOPT_JOB_SUSPECTS] = "running suspects of a crash",
		[DBOPT_JOB_INDEX] = "building index",
		[DBOPT_JOB_LOG_INDEX] = "building a log index",
		[DBOPT_JOB_SQL] = "running SQL of a caller"
	};
	char		activity[32 + NAMEDATALEN];

	if (job->kind == DBOPT_JOB_INDEX && NameStr(job->index)[0] == '\0')
		strlcpy(activity, "looking for missing indexes", sizeof(activity));
	else if (job->kind == DBOPT_JOB_INDEX)
		snprintf(activity, sizeof(activity), "%s %s", activities[job->kind],
				 NameStr(job->index));
	else if (job->kind == DBOPT_JOB_LOG_INDEX)
		snprintf(activity, sizeof(activity), "%s, source %d",
				 activities[job->kind], job->source_id);
	else if (job->kind == DBOPT_JOB_SQL)
		strlcpy(activity, activities[job->kind], sizeof(activity));
	else
		snprintf(activity, sizeof(activity), "%s, handler %d",
				 activities[job->kind], job->handler_id);
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
run_job(const DbOptJob *job)
{
	DbOptJobResult result = {0};
	ErrorData  *error;

	report_job(job);
	if (job->kind == DBOPT_JOB_SQL)
		dbopt_pooled_run(job);	/* is idle before it answers */
	else
	{
		if (job->kind == DBOPT_JOB_LOG_INDEX)
			dbopt_log_build_run(job, &result);
		else
			dbopt_job_run(job, &result);
		Assert(!IsTransactionState());
		dbopt_departure_begin();	/* also after a job that failed */
		dbopt_session_release();
		if ((error = dbopt_session_reset()) != NULL)
			dbopt_session_give_up(error);
		dbopt_session_report_idle(&result);
	}
}

void
dbopt_session_main(Datum main_arg)
{
	uint32		wait_event;
	MemoryContext job_context;
	DbOptSpin	calls = {0};
	DbOptJob	job = {0};
	SessionOrder order;

	connect_session();
	wait_event = DBOPT_WAIT_EVENT("DboptSessionMain");
	job_context = AllocSetContextCreate(TopMemoryContext, "dbopt job",
										ALLOCSET_DEFAULT_SIZES);
	dbopt_session_report_idle(NULL);
	while ((order = next_order(&job)) != ORDER_GO)
	{
		if (order == ORDER_WAIT)
		{
			if (job.awake)
				dbopt_latch_spin(&calls);
			job.awake = false;	/* for a moment after a call */
			dbopt_worker_sleep(DBOPT_NEVER, wait_event);
			continue;
		}
		MemoryContextSwitchTo(job_context);
		run_job(&job);
		MemoryContextReset(job_context);
	}
	proc_exit(0);
}
