/*
 * scheduler.c
 *		The scheduler of one database.
 *
 * A dynamic background worker, started by the launcher in any database that
 * might have the extension; it leaves at once where it is not.  It connects as
 * the superuser, reads handlers, cursors and leftover chunks when it starts
 * and when they change, and runs no code of anybody's.
 *
 * A round: take the news, see what sessions have finished, collect what is
 * due, assign it.  With news of known event types only, a round reads nothing
 * from the database.  Between rounds it sleeps until the next due time or its
 * latch.  An error ends the process, and the launcher starts another.
 *
 * It holds dbopt_shared->lock only for copying to and from its slots.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "engine/alert.h"
#include "engine/assign.h"
#include "engine/config.h"
#include "engine/crew.h"
#include "engine/extension.h"
#include "engine/index_schedule.h"
#include "engine/locked.h"
#include "engine/probation.h"
#include "engine/schedule.h"
#include "engine/scheduler.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/circuit.h"
#include "state/history.h"
#include "state/hold.h"
#include "state/log_line.h"
#include "state/news.h"
#include "state/solo.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static DbOptWorkerTarget target;
static DbOptDatabase *database;
static bool attached = false;
static DbOptSchedulerState last_state = DBOPT_SCHEDULER_GONE;

/* ---- coming and going ---------------------------------------------------- */

/*
 * Tells this scheduler's sessions to go: the idle ones now, the others when
 * their job is done.
 */
static void
dismiss_sessions(void)
{
	int			i;

	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));
	for (i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid != database->dboid ||
			session->database != target.slot ||
			session->database_generation != target.generation)
			continue;
		pg_atomic_write_u32(&session->yield, 1);
		if (session->state == DBOPT_SESSION_BUSY)
			continue;
		session->state = DBOPT_SESSION_STOPPING;
		if (session->pid != 0)
			dbopt_process_wake(session->procno);
	}
}

/*
 * Runs when the process has left the ProcArray, so that whoever waits for it
 * to go may count connections then.
 */
static void
scheduler_exit(int code, Datum arg)
{
	if (!attached)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (database->generation == target.generation)
	{
		if (database->state == DBOPT_SCHEDULER_RUNNING)
			database->missing_since = GetCurrentTimestamp();
		database->state = last_state;
		database->scheduler_pid = 0;
		pg_atomic_write_u32(&database->active, 0);
		pg_atomic_write_u32(&database->pending, 0);
		pg_atomic_write_u32(&database->waiting, 0);
		pg_atomic_write_u32(&database->wants_session, 0);
		pg_atomic_write_u32(&database->direct_calls, 0);
		dbopt_history_level(database, 0, 0);
		dismiss_sessions();
	}
	LWLockRelease(dbopt_shared->lock);

	dbopt_solo_unstall(target.slot);
	dbopt_solo_give_back(target.slot);
	ConditionVariableBroadcast(&dbopt_shared->worker_gone);
	dbopt_launcher_wake();
}

/*
 * Takes the slot that the launcher prepared.  InvalidOid: too late, another
 * scheduler has it, or the database is held.
 */
static Oid
attach_slot(void)
{
	Oid			dboid = InvalidOid;

	on_shmem_exit(scheduler_exit, (Datum) 0);
	target = dbopt_worker_target();
	database = dbopt_database_slot(target.slot);

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (database->generation == target.generation)
	{
		dboid = database->dboid;
		database->scheduler_pid = MyProcPid;
		database->scheduler_procno = DBOPT_MY_PROC_NUMBER;
		database->started_at = GetCurrentTimestamp();
		database->held_down = dbopt_held_until(dboid) != 0;
		if (database->held_down)
			dboid = InvalidOid;
		attached = true;
	}
	LWLockRelease(dbopt_shared->lock);
	return dboid;
}

static void
report_running(Oid extension)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	database->state = DBOPT_SCHEDULER_RUNNING;
	memset(&database->refused, 0, sizeof(database->refused));
	LWLockRelease(dbopt_shared->lock);
	dbopt_handler_attach(MyDatabaseId, extension, 0, "database");
	dbopt_launcher_wake();
}

/*
 * Tells once that the extension is of a version that we do not know.
 */
static void
report_refusal(const char *version)
{
	bool		told;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	told = strcmp(NameStr(database->refused), version) == 0;
	namestrcpy(&database->refused, version);
	LWLockRelease(dbopt_shared->lock);
	if (!told)
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dbopt does not run in database \"%s\": its extension is of version %s, and the library knows versions up to %s",
						get_database_name(MyDatabaseId), version,
						dbopt_known_version()),
				 errdetail("Events are stamped, and wait."),
				 errhint("Install the library of that version and restart the server.")));
}

/*
 * Where the extension is of a version that we do not know, a later library
 * will want what is in the slots of the handlers.
 */
static void
leave_for_good(void)
{
	const DbOptConfig *config;

	StartTransactionCommand();
	config = dbopt_config_look();
	if (config->newer_version != NULL)
	{
		last_state = DBOPT_SCHEDULER_REFUSED;
		report_refusal(config->newer_version);
	}
	else
	{
		last_state = DBOPT_SCHEDULER_ABSENT;
		dbopt_handlers_release(MyDatabaseId);
	}
	CommitTransactionCommand();
	proc_exit(0);
}

/*
 * Looks for the extension.  The launcher hears of it at once: reading the rest
 * may have to wait for a lock.
 */
static void
find_extension(void)
{
	const DbOptConfig *config;
	Oid			extension;
	bool		runs;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	config = dbopt_config_look();
	runs = config->installed && config->newer_version == NULL;
	extension = config->extension;
	CommitTransactionCommand();
	if (!runs)
		leave_for_good();
	report_running(extension);
	dbopt_probation_begin(target.slot, dbopt_pool_limits().max);
}

/* ---- a round ------------------------------------------------------------- */

static void
take_reports(TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, dbopt_crew_update(now))
	{
		DbOptReport *report = lfirst(cell);

		if (report->job.kind == DBOPT_JOB_INDEX ||
			report->job.kind == DBOPT_JOB_LOG_INDEX)
			dbopt_alert_doubt();
		if (report->lost)
			dbopt_schedule_lost(&report->job, now);
		else
			dbopt_schedule_finished(&report->job, &report->result, now);
	}
}

/*
 * From here to the end of the round no caller takes a session by itself, and
 * every session that becomes idle says so.
 */
static void
close_door(void)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&database->direct_calls, 0);
	LWLockRelease(dbopt_shared->lock);
}

/*
 * For dbopt_drain(), dbopt_pool_stats() and dbopt_report(): what is known at
 * the end of this round.
 */
static void
publish_round(const DbOptCandidates *candidates)
{
	int			others = dbopt_index_schedule_running() +
	dbopt_builds_running() + dbopt_crew_calls();

	pg_atomic_write_u32(&database->active, dbopt_crew_busy() - others);
	pg_atomic_write_u32(&database->pending,
						candidates->due + (dbopt_schedule_undiscovered() ? 1 : 0));
	pg_atomic_write_u32(&database->waiting, candidates->waiting);
	pg_atomic_write_u32(&database->direct_calls, candidates->direct_calls);
	dbopt_history_level(database, dbopt_crew_busy(), candidates->waiting);
	pg_atomic_fetch_add_u64(&database->rounds, 1);
}

/*
 * Returns when the next round is due.
 */
static TimestampTz
scheduler_round(void)
{
	TimestampTz now = GetCurrentTimestamp();
	DbOptPoolLimits limits = dbopt_pool_limits();
	DbOptCandidates *candidates;
	TimestampTz probe_at;
	TimestampTz alert_at;
	bool		reclaim;

	close_door();
	take_reports(now);
	if (!dbopt_schedule_take_news(database, &now))
		leave_for_good();
	probe_at = dbopt_locked_probe(now);
	dbopt_probation_read(now);
	candidates = dbopt_schedule_collect(limits.max, now);
	dbopt_probation_choose(candidates, now);
	dbopt_callers_collect(candidates, limits.max);
	dbopt_assign_jobs(candidates, &limits, now);
	reclaim = pg_atomic_exchange_u32(&database->reclaim, 0) != 0;
	dbopt_pool_adjust(&limits, reclaim, now, &candidates->next);
	publish_round(candidates);
	candidates->next = Min(candidates->next, dbopt_log_left_out(now));
	alert_at = dbopt_alert_round(database,
								 candidates->due > 0 || dbopt_crew_busy() > 0,
								 now);
	candidates->next = Min(candidates->next, alert_at);
	return Min(Min(candidates->next, dbopt_schedule_discover_at()), probe_at);
}

/*
 * Settings of the database must not keep the scheduler from its work.
 */
static void
set_defaults(void)
{
	SetConfigOption("application_name", "dbopt scheduler", PGC_USERSET,
					PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET,
					PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_USERSET, PGC_S_OVERRIDE);
	DBOPT_DISABLE_TRANSACTION_TIMEOUT();
}

void
dbopt_scheduler_main(Datum main_arg)
{
	Oid			dboid = attach_slot();
	uint32		wait_event;
	MemoryContext round_context;

	if (!OidIsValid(dboid))
		proc_exit(0);
	dbopt_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	set_defaults();
	wait_event = DBOPT_WAIT_EVENT("DboptSchedulerMain");
	dbopt_crew_init();
	dbopt_crew_start_init(target);
	dbopt_schedule_init();
	find_extension();
	round_context = AllocSetContextCreate(TopMemoryContext, "dbopt round",
										  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		TimestampTz next;

		MemoryContextSwitchTo(round_context);
		next = scheduler_round();
		MemoryContextReset(round_context);
		dbopt_worker_sleep(next, wait_event);
	}
}
