/*
 * caller_take.c
 *		A caller that takes an idle session of its role by itself.
 *
 * It may where nobody waits for one and the scheduler is between two rounds.
 * Run by callers, under dbopt_shared->lock.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "state/caller.h"
#include "state/database.h"
#include "state/history.h"
#include "state/pool.h"
#include "storage/proc.h"
#include "storage/spin.h"

#define CLOSE_FOR	INT64CONST(100000)	/* microseconds after a call */

/* What one look at all sessions shows. */
typedef struct Survey
{
	int			best;			/* the session to take; -1: none is free */
	int			calls;			/* of this database's callers at work, */
	int			of_role;		/* and of the caller's role alone */
	int			used;			/* sessions of this database at work, */
	int			busy;			/* and of all */
} Survey;

/* May this session be taken by a caller of the role? */
static bool
is_free(DbOptSession *session, Oid roleid)
{
	const DbOptDatabase *database = dbopt_database_slot(session->database);

	return session->roleid == roleid &&
		session->state == DBOPT_SESSION_IDLE &&
		pg_atomic_read_u32(&session->unseen) == 0 &&
		session->database_generation == database->generation &&
		database->scheduler_pid != 0;
}

/* Sessions that began with other settings than theirs are now are to end. */
static bool
settings_changed(DbOptDatabase *database)
{
	bool		changed;

	SpinLockAcquire(&database->news_mutex);
	changed = database->news.settings;
	SpinLockRelease(&database->news_mutex);
	return changed;
}

/*
 * How well placed is a session to work for this caller?  Waking a process on
 * another CPU takes longer, and the kernel moves them together only when both
 * have little to do; next best is the one that it knows from the last call.  But
 * callers who call rarely share a session, so that the others can end.
 */
static int
closeness(const DbOptCaller *caller, const DbOptSession *session)
{
	if (session->job.kind != DBOPT_JOB_SQL ||
		caller->since - session->since > CLOSE_FOR)
		return 0;
	if (session->cpu >= 0 && session->cpu == dbopt_cpu())
		return 2;
	return session->job.caller == DBOPT_MY_PROC_NUMBER ? 1 : 0;
}

/* Of two that are equally close, the one that worked last, as dbopt_crew_idle(). */
static bool
is_better(const DbOptCaller *caller, const DbOptSession *session,
		  const DbOptSession *other)
{
	int			difference = closeness(caller, session) -
	closeness(caller, other);

	if (difference != 0)
		return difference > 0;
	return session->since > other->since;
}

static void
add_session(Survey *survey, const DbOptCaller *caller, int number)
{
	DbOptSession *session = dbopt_session_slot(number);
	bool		busy = session->state == DBOPT_SESSION_BUSY;

	if (!OidIsValid(session->dboid))
		return;
	survey->busy += busy ? 1 : 0;
	if (session->dboid != MyDatabaseId)
		return;
	survey->used += busy ? 1 : 0;
	if (busy && session->job.kind == DBOPT_JOB_SQL)
	{
		survey->calls++;
		survey->of_role += session->roleid == caller->roleid ? 1 : 0;
	}
	else if (is_free(session, caller->roleid) &&
			 (survey->best < 0 ||
			  is_better(caller, session, dbopt_session_slot(survey->best))))
		survey->best = number;
}

/* False: there is none for this caller, or others come first. */
static bool
find_session(const DbOptCaller *caller, Survey *survey)
{
	DbOptDatabase *database = dbopt_database_find(MyDatabaseId);

	if (database == NULL || pg_atomic_read_u32(&database->direct_calls) == 0 ||
		pg_atomic_read_u32(&dbopt_shared->callers) > 1 ||
		settings_changed(database))
		return false;
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
		add_session(survey, caller, i);
	return survey->best >= 0 &&
		survey->calls < (int) pg_atomic_read_u32(&database->direct_calls) &&
		(caller->role_limit < 0 || survey->of_role < caller->role_limit);
}

/* Are there CPUs for one more session at work, and for all their callers? */
static bool
has_spare_cpus(const Survey *survey)
{
	return 2 * (survey->busy + 1) <= dbopt_shared->cpus;
}

/*
 * That the session is the queue's sender is said here: when it says so itself,
 * it wakes a caller for whom there is nothing yet.
 */
int
dbopt_caller_take_session(DbOptCaller *caller, shm_mq *queue)
{
	Survey		survey = {.best = -1};
	DbOptJob	job = {.kind = DBOPT_JOB_SQL,.handler_id = -1};
	DbOptSession *session;
	DbOptDatabase *database;

	if (!find_session(caller, &survey))
		return -1;
	session = dbopt_session_slot(survey.best);
	database = dbopt_database_slot(session->database);
	job.caller = DBOPT_MY_PROC_NUMBER;
	job.ticket = caller->ticket;
	job.segment = caller->segment;
	job.awake = caller->awake = has_spare_cpus(&survey);
	(void) dbopt_caller_serve(&job, survey.best, caller->since);
	shm_mq_set_sender(queue, GetPGProcByNumber(session->procno));
	dbopt_session_give(session, &job, caller->since);
	pg_atomic_fetch_add_u64(&database->pool_events[DBOPT_POOL_ACQUIRE_SUCCESS],
							1);
	dbopt_history_peak(database, survey.used + 1, caller->since);
	return session->procno;
}
