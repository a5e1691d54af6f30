/*
 * crew_start.c
 *		Starting sessions: a slot in shared memory, then a worker.
 *
 * Run by the scheduler alone, under dbopt_shared->lock where it touches slots.
 * The slots are the cluster's.  A scheduler that finds none has another database
 * give one up (reclaim.h), and is woken when any session ends.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "miscadmin.h"
#include "policy/backoff.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "state/reclaim.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define ABANDONED_MS	60000	/* for a worker to start after its scheduler
								 * has gone */
#define WORTH_LOGGING	3		/* failures in a row: nobody gave a slot up */

static const DbOptBackoff start_backoff = {
	.base_delay = 1000000,
	.max_delay = 60000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

static DbOptWorkerTarget my_database;
static bool strangers_present = true;	/* sessions of an earlier scheduler */
static int	nstrangers = 0;		/* those of them that are at work, */
static struct
{
	int32		handler_id;		/* for this handler, */
	Oid			caller;			/* or for a caller of this role */
}		   *strangers;
static int	nleavers = 0;		/* and that were dismissed */
static int	slot_failures = 0;
static TimestampTz slot_retry_at = 0;

void
dbopt_crew_start_init(DbOptWorkerTarget database)
{
	my_database = database;
	strangers = MemoryContextAlloc(TopMemoryContext,
								   dbopt_shared->max_sessions *
								   sizeof(*strangers));
}

static DbOptDatabase *
my_slot(void)
{
	return dbopt_database_slot(my_database.slot);
}

void
dbopt_crew_count(DbOptPoolEvent event)
{
	pg_atomic_fetch_add_u64(&my_slot()->pool_events[event], 1);
}

void
dbopt_crew_log(const char *message, Oid role, const char *error_code,
			   int attempt, int64 delay)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_POOL,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.message = message,
		.attempt = attempt,
		.sqlstate = error_code[0] == '\0' ? NULL : error_code,
		.delay = delay,
		.subject = "role_oid",
		.subject_value = psprintf("%u", role)
	};

	dbopt_log_line(&line);
}

static void
add_stranger(const DbOptSession *session)
{
	strangers[nstrangers].handler_id = session->job.handler_id;
	strangers[nstrangers++].caller = session->job.kind == DBOPT_JOB_SQL ?
		session->roleid : InvalidOid;
}

/*
 * Finds the sessions of an earlier scheduler that are still at work.
 */
void
dbopt_crew_update_strangers(void)
{
	int			i;

	if (!strangers_present)
		return;
	strangers_present = false;
	nstrangers = nleavers = 0;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid != MyDatabaseId ||
			(session->database == my_database.slot &&
			 session->database_generation == my_database.generation))
			continue;
		strangers_present = true;
		if (session->state == DBOPT_SESSION_BUSY)
			add_stranger(session);
		if (session->dismissed)
			nleavers++;
	}
	LWLockRelease(dbopt_shared->lock);
	for (i = 0; i < nstrangers; i++)
		if (OidIsValid(strangers[i].caller))
			dbopt_crew_role(strangers[i].caller)->calls++;
}

/*
 * How many of them are at work for this handler.
 */
int
dbopt_crew_strangers(int32 handler_id)
{
	int			count = 0;
	int			i;

	for (i = 0; i < nstrangers; i++)
		if (strangers[i].handler_id == handler_id)
			count++;
	return count;
}

int
dbopt_crew_strangers_calling(void)
{
	int			count = 0;

	for (int i = 0; i < nstrangers; i++)
		if (OidIsValid(strangers[i].caller))
			count++;
	return count;
}

int
dbopt_crew_strangers_at_events(void)
{
	return nstrangers - dbopt_crew_strangers_calling();
}

int
dbopt_crew_leavers(void)
{
	return nleavers;
}

/*
 * Was this slot taken by a scheduler that has gone, for a worker that never
 * came?
 */
static bool
is_abandoned(const DbOptSession *session, TimestampTz now)
{
	return session->pid == 0 &&
		session->database_generation !=
		dbopt_database_slot(session->database)->generation &&
		TimestampDifferenceExceeds(session->since, now, ABANDONED_MS);
}

/*
 * Finds a free slot, -1 for none, and counts this database's.
 */
static int
find_free_slot(int *own, TimestampTz now)
{
	int			free = -1;
	int			i;

	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));
	*own = 0;
	for (i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (OidIsValid(session->dboid) && is_abandoned(session, now))
			session->dboid = InvalidOid;
		if (session->dboid == MyDatabaseId)
			*own += session->parted ? 0 : 1;
		else if (!OidIsValid(session->dboid) && free < 0)
			free = i;
	}
	return free;
}

static void
fill_slot(DbOptSession *session, const DbOptCrewRole *role, TimestampTz now)
{
	session->dboid = MyDatabaseId;
	session->roleid = role->role;
	session->quiet = role->failures > 0;
	session->generation++;
	session->database = my_database.slot;
	session->database_generation = my_database.generation;
	session->state = DBOPT_SESSION_STARTING;
	session->pid = 0;
	session->since = now;
	session->jobs_done = 0;
	session->cpu = -1;
	memset(&session->job, 0, sizeof(session->job));
	session->dismissed = false;
	session->parted = false;
	session->admission.granted = 0;
	session->in_flight = 0;
	session->error_code[0] = session->error[0] = '\0';
}

/*
 * Takes a slot for a new session.  -1: none is free, or the database has its
 * maximum, sessions of an earlier scheduler included.
 */
static int
take_slot(const DbOptCrewRole *role, int max, uint32 *generation, bool *full,
		  TimestampTz now)
{
	int			number;
	int			own;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	number = find_free_slot(&own, now);
	*full = own >= max;
	if (*full)
		number = -1;
	if (number >= 0)
	{
		fill_slot(dbopt_session_slot(number), role, now);
		*generation = dbopt_session_slot(number)->generation;
	}
	LWLockRelease(dbopt_shared->lock);
	return number;
}

static void
free_slot(int number)
{
	DbOptSession *session = dbopt_session_slot(number);

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	session->dboid = InvalidOid;
	session->state = DBOPT_SESSION_FREE;
	LWLockRelease(dbopt_shared->lock);
}

/*
 * No session slot, or no worker slot of the postmaster's: try again when a
 * session ends somewhere, or when the delay is over.
 */
static void
put_off_start(const DbOptCrewRole *role, TimestampTz now)
{
	dbopt_crew_count(DBOPT_POOL_CREATE_REQUEST);
	dbopt_crew_count(DBOPT_POOL_CREATE_FAIL);
	slot_failures++;
	slot_retry_at = now + dbopt_backoff_base(&start_backoff, slot_failures);
	dbopt_reclaim_session(my_database.slot);
	if (slot_failures == WORTH_LOGGING)
		dbopt_crew_log("could not start a dbopt session: no free slot; consider increasing max_worker_processes or dbopt.max_workers",
					   role->role, "53300", slot_failures,
					   slot_retry_at - now);
}

/*
 * Starts a session for the role.  It is of use when it has connected.
 */
DbOptCrewStart
dbopt_crew_start_warm(DbOptCrewRole *role, int max, TimestampTz now)
{
	DbOptWorkerTarget target;
	BackgroundWorkerHandle *handle;
	bool		full = false;

	target.slot = take_slot(role, max, &target.generation, &full, now);
	if (full)
		return DBOPT_CREW_FULL;
	if (target.slot < 0)
		return DBOPT_CREW_NO_SLOT;
	handle = dbopt_worker_start("dbopt session", "dbopt_session_main", target);
	if (handle == NULL)
	{
		free_slot(target.slot);
		return DBOPT_CREW_NO_SLOT;
	}
	dbopt_crew_count(DBOPT_POOL_CREATE_REQUEST);
	dbopt_crew_add(role, target, handle, now);
	return DBOPT_CREW_STARTED;
}

/*
 * The same for a session that somebody waits for.
 */
DbOptCrewStart
dbopt_crew_start(DbOptCrewRole *role, int max, TimestampTz now)
{
	DbOptCrewStart result;

	if (slot_retry_at > now && pg_atomic_read_u32(&my_slot()->wants_session))
		return DBOPT_CREW_NO_SLOT;
	result = dbopt_crew_start_warm(role, max, now);
	if (result == DBOPT_CREW_NO_SLOT)
		put_off_start(role, now);
	return result;
}

/*
 * Nobody waits for a slot any longer.
 */
void
dbopt_crew_all_started(void)
{
	pg_atomic_write_u32(&my_slot()->wants_session, 0);
	slot_failures = 0;
}

TimestampTz
dbopt_crew_retry_at(void)
{
	return slot_retry_at;
}
