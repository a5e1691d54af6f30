/*
 * hold.c
 *		Leases on the absence of dbopt's workers from a database.
 *
 * Run by a backend before DROP DATABASE and the like, which count the other
 * connections before any hook is called, and before DROP EXTENSION.  The lease lives in shared memory,
 * under dbopt_shared->lock, and is released by this backend's transaction
 * callback, whether the command succeeds or fails; the time limit is for what
 * no callback sees.  A lease that is over too early does no harm: the command
 * has locked the database by then, and a worker that connects waits.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/guc.h"
#include "state/hold.h"
#include "state/news.h"
#include "utils/timestamp.h"

#define HOLD_MS			30000

static bool callback_registered = false;
static bool holding = false;

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

static void
hold_xact_callback(XactEvent event, void *arg)
{
	if (holding && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT))
		release_holds();
}

/*
 * Takes a lease; the one that is over soonest makes way if there are too many.
 */
static void
put_hold(Oid dboid, TimestampTz now)
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
	place->until = TimestampTzPlusMilliseconds(now, HOLD_MS);
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

/*
 * Tells the database's workers to go.  One that has not attached to its slot
 * yet finds out when it does.
 */
static void
stop_workers(Oid dboid)
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
		session->state = DBOPT_SESSION_STOPPING;
		if (session->pid != 0)
			kill(session->pid, SIGTERM);
	}
}

static bool
workers_present(Oid dboid)
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

		present = session->dboid == dboid && session->pid != 0;
	}
	LWLockRelease(dbopt_shared->lock);
	return present;
}

static void
wait_until_gone(Oid dboid, TimestampTz limit)
{
	ConditionVariablePrepareToSleep(&dbopt_shared->worker_gone);
	while (workers_present(dboid))
	{
		long		rest;

		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), limit);
		if (rest <= 0)
			break;
		ConditionVariableTimedSleep(&dbopt_shared->worker_gone, rest,
									DBOPT_WAIT_EVENT("DboptWorkersGone"));
	}
	ConditionVariableCancelSleep();
}

void
dbopt_hold_database(Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!callback_registered)
	{
		RegisterXactCallback(hold_xact_callback, NULL);
		callback_registered = true;
	}

	holding = true;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	put_hold(dboid, now);
	stop_workers(dboid);
	LWLockRelease(dbopt_shared->lock);

	wait_until_gone(dboid, TimestampTzPlusMilliseconds(now,
													   dbopt_shutdown_timeout));
}
