/*
 * hold.c
 *		Leases on the absence of dbopt's workers from a database.
 *
 * Run by a backend before DROP DATABASE and the like, which count the other
 * connections before any hook is called, and before DROP and ALTER EXTENSION.
 * The lease lives in shared memory, under dbopt_shared->lock, and is released
 * by this backend's transaction callbacks, whether the command succeeds or
 * fails, or is taken back with a subtransaction; the time limit is for what no
 * callback sees.  One on a database that is over too early does no harm: the
 * command has locked it by then, and a worker that connects waits.  DROP and
 * ALTER EXTENSION may wait for somebody's lock on one of dbopt's tables when
 * they have others, be it for hours: workers that came back meanwhile could end
 * in a deadlock with them.
 *
 * DROP EXTENSION lets a session that builds an index drop what the build has
 * left: it is told to end the build, and not waited for any longer when it has
 * parted from dbopt's tables.  ALTER EXTENSION has nothing against builds and
 * what callers run, which touch dbopt's tables for moments only.
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/guc.h"
#include "state/hold.h"
#include "state/news.h"
#include "utils/timestamp.h"

#define HOLD_MS				30000
#define HOLD_EXTENSION_MS	INT_MAX

/* What the workers have to leave. */
typedef enum HoldFor
{
	FOR_DATABASE,
	FOR_EXTENSION,				/* dbopt's tables, which may go */
	FOR_UPDATE					/* dbopt's tables, which stay */
} HoldFor;

static bool callback_registered = false;
static bool holding = false;
static SubTransactionId held_in;	/* while holding: where that has begun */

/*
 * Releases all holds of this backend, and has the launcher look at their
 * databases.
 */
static void
release_holds(void)
{
	Oid			released[DBOPT_MAX_HOLDS];
	int			nreleased = 0;
	int			i;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < DBOPT_MAX_HOLDS; i++)
	{
		DbOptHold  *hold = &dbopt_shared->holds[i];

		if (OidIsValid(hold->dboid) && hold->pid == MyProcPid)
		{
			released[nreleased++] = hold->dboid;
			hold->dboid = InvalidOid;
		}
	}
	LWLockRelease(dbopt_shared->lock);

	for (i = 0; i < nreleased; i++)
		dbopt_launcher_news_put(released[i]);
	holding = false;
}

/* A prepared transaction keeps its locks, and waits for none. */
static void
hold_xact_callback(XactEvent event, void *arg)
{
	if (holding && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
					event == XACT_EVENT_PREPARE))
		release_holds();
}

/*
 * Of those that have not ended, the ones in which it began have no higher number.
 */
static void
hold_subxact_callback(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	if (holding && event == SUBXACT_EVENT_ABORT_SUB && mine <= held_in)
		release_holds();
}

/*
 * Takes a lease; the one that is over soonest makes way if there are too many.
 */
static void
put_hold(Oid dboid, HoldFor purpose, TimestampTz now)
{
	DbOptHold  *place = &dbopt_shared->holds[0];
	int			i;

	for (i = 0; i < DBOPT_MAX_HOLDS; i++)
	{
		DbOptHold  *hold = &dbopt_shared->holds[i];

		if (!OidIsValid(hold->dboid))
		{
			place = hold;
			break;
		}
		if (hold->until < place->until)
			place = hold;
	}
	place->dboid = dboid;
	place->pid = MyProcPid;
	place->until = TimestampTzPlusMilliseconds(now, purpose == FOR_DATABASE ?
											   HOLD_MS : HOLD_EXTENSION_MS);
}

TimestampTz
dbopt_held_until(Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = 0;
	int			i;

	Assert(LWLockHeldByMe(dbopt_shared->lock));
	for (i = 0; i < DBOPT_MAX_HOLDS; i++)
	{
		DbOptHold  *hold = &dbopt_shared->holds[i];

		if (hold->dboid == dboid && hold->until > now)
			until = Max(until, hold->until);
	}
	return until;
}

/* Does it build an index, or drop what the build has left? */
static bool
builds_index(const DbOptSession *session)
{
	const DbOptJob *job = &session->job;

	if (session->dismissed)
		return true;
	return session->state == DBOPT_SESSION_BUSY && session->pid != 0 &&
		(job->kind == DBOPT_JOB_LOG_INDEX ||
		 (job->kind == DBOPT_JOB_INDEX && NameStr(job->index)[0] != '\0'));
}

static bool
runs_sql(const DbOptSession *session)
{
	return session->state == DBOPT_SESSION_BUSY &&
		session->job.kind == DBOPT_JOB_SQL;
}

/* Does the command need it gone? */
static bool
is_in_the_way(const DbOptSession *session, HoldFor purpose)
{
	switch (purpose)
	{
		case FOR_EXTENSION:
			return !session->parted;
		case FOR_UPDATE:
			return !builds_index(session) && !runs_sql(session);
		case FOR_DATABASE:
			break;
	}
	return true;
}

/* Cancels the build; one that has parted has heard of it. */
static void
dismiss(DbOptSession *session)
{
	session->state = DBOPT_SESSION_STOPPING;
	session->dismissed = true;
	if (!session->parted)
		kill(session->pid, SIGINT);
}

static void
stop_session(DbOptSession *session)
{
	session->state = DBOPT_SESSION_STOPPING;
	if (session->pid != 0)
		kill(session->pid, SIGTERM);
}

/*
 * Tells the database's workers to go.  One that has not attached to its slot
 * yet finds out when it does.
 */
static void
stop_workers(Oid dboid, HoldFor purpose)
{
	DbOptDatabase *database = dbopt_database_find(dboid);
	int			i;

	if (database != NULL && database->scheduler_pid != 0)
	{
		database->held_down = true;
		kill(database->scheduler_pid, SIGTERM);
	}
	for (i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid != dboid)
			continue;
		if (purpose == FOR_EXTENSION && builds_index(session))
			dismiss(session);
		else if (is_in_the_way(session, purpose))
			stop_session(session);
	}
}

static bool
workers_present(Oid dboid, HoldFor purpose)
{
	DbOptDatabase *database;
	bool		present;
	int			i;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(dboid);
	present = database != NULL && database->scheduler_pid != 0;
	for (i = 0; i < dbopt_shared->max_sessions && !present; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		present = session->dboid == dboid && session->pid != 0 &&
			is_in_the_way(session, purpose);
	}
	LWLockRelease(dbopt_shared->lock);
	return present;
}

/* False: some are still there. */
static bool
wait_until_gone(Oid dboid, HoldFor purpose, TimestampTz limit)
{
	bool		present;

	ConditionVariablePrepareToSleep(&dbopt_shared->worker_gone);
	while ((present = workers_present(dboid, purpose)))
	{
		long		rest;

		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), limit);
		if (rest <= 0)
			break;
		ConditionVariableTimedSleep(&dbopt_shared->worker_gone, rest,
									DBOPT_WAIT_EVENT("DboptWorkersGone"));
	}
	ConditionVariableCancelSleep();
	return !present;
}

/* An index may have functions that catch a cancel. */
static void
stop_stubborn(Oid dboid, HoldFor purpose)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid == dboid && is_in_the_way(session, purpose))
			stop_session(session);
	}
	LWLockRelease(dbopt_shared->lock);
}

static void
hold(Oid dboid, HoldFor purpose)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!callback_registered)
	{
		RegisterXactCallback(hold_xact_callback, NULL);
		RegisterSubXactCallback(hold_subxact_callback, NULL);
		callback_registered = true;
	}

	if (!holding)
		held_in = GetCurrentSubTransactionId();
	holding = true;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	put_hold(dboid, purpose, now);
	stop_workers(dboid, purpose);
	LWLockRelease(dbopt_shared->lock);

	if (!wait_until_gone(dboid, purpose,
						 TimestampTzPlusMilliseconds(now,
													 dbopt_shutdown_timeout)))
		stop_stubborn(dboid, purpose);
}

void
dbopt_hold_database(Oid dboid)
{
	hold(dboid, FOR_DATABASE);
}

void
dbopt_hold_extension(void)
{
	hold(MyDatabaseId, FOR_EXTENSION);
}

void
dbopt_hold_update(void)
{
	hold(MyDatabaseId, FOR_UPDATE);
}
