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
	int			last;			/* of those that are free the one that worked
								 * last, -1: none; */
	int			near;			/* of these the ones that have just worked on
								 * the caller's CPU, */
	int			known;			/* and for the caller */
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

static void
keep_later(int *number, int other)
{
	if (*number < 0 || dbopt_session_slot(other)->since >
		dbopt_session_slot(*number)->since)
		*number = other;
}

/*
 * Callers who call rarely share a session, as dbopt_crew_idle() has it, so that
 * the others can end.
 */
static void
add_free(Survey *survey, const DbOptCaller *caller, int number)
{
	DbOptSession *session = dbopt_session_slot(number);

	keep_later(&survey->last, number);
	if (session->job.kind != DBOPT_JOB_SQL ||
		caller->since - session->since > CLOSE_FOR)
		return;
	if (session->cpu >= 0 && session->cpu == dbopt_cpu())
		keep_later(&survey->near, number);
	if (session->job.caller == DBOPT_MY_PROC_NUMBER)
		keep_later(&survey->known, number);
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
	else if (is_free(session, caller->roleid))
		add_free(survey, caller, number);
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
	return survey->last >= 0 &&
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
 * Waking a process on another CPU takes longer, and the kernel seldom moves two
 * together that are both at work.
 */
static int
choose(const Survey *survey)
{
	return survey->near >= 0 ? survey->near :
		survey->known >= 0 ? survey->known : survey->last;
}

/*
 * That the session is the queue's sender is said here: when it says so itself,
 * it wakes a caller for whom there is nothing yet.
 */
int
dbopt_caller_take_session(DbOptCaller *caller, shm_mq *queue)
{
	Survey		survey = {.last = -1,.near = -1,.known = -1};
	DbOptJob	job = {.kind = DBOPT_JOB_SQL,.handler_id = -1};
	int			number;
	DbOptSession *session;
	DbOptDatabase *database;

	if (!find_session(caller, &survey))
		return -1;
	job.awake = caller->awake = has_spare_cpus(&survey);
	number = choose(&survey);
	session = dbopt_session_slot(number);
	database = dbopt_database_slot(session->database);
	job.caller = DBOPT_MY_PROC_NUMBER;
	job.ticket = caller->ticket;
	job.segment = caller->segment;
	(void) dbopt_caller_serve(&job, number, caller->since);
	shm_mq_set_sender(queue, GetPGProcByNumber(session->procno));
	dbopt_session_give(session, &job, caller->since);
	pg_atomic_fetch_add_u64(&database->pool_events[DBOPT_POOL_ACQUIRE_SUCCESS],
							1);
	dbopt_history_peak(database, survey.used + 1, caller->since);
	return session->procno;
}
