/*
 * solo.c
 *		Whose turn it is, when events are run with nothing else beside them in
 *		the whole cluster.
 *
 * Run by schedulers, under dbopt_shared->lock.  Jobs are assigned under the
 * same lock (crew_orders.c), so that none is after the turn was taken; those
 * that were assigned before are seen by dbopt_solo_is_quiet().
 */
#include "postgres.h"

#include "state/solo.h"

void
dbopt_schedulers_wake(void)
{
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		DbOptDatabase *database = dbopt_database_slot(i);

		if (OidIsValid(database->dboid) && database->scheduler_pid != 0)
			dbopt_process_wake(database->scheduler_procno);
	}
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_solo_take(int database)
{
	int			owner;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	owner = dbopt_shared->solo_owner;
	if (owner == 0)
		dbopt_shared->solo_owner = database + 1;
	LWLockRelease(dbopt_shared->lock);
	if (owner == 0)
		dbopt_schedulers_wake();
	return owner == 0 || owner == database + 1;
}

/* Does a session of this database, maybe of an earlier scheduler, run alone? */
static bool
runs_suspects(int database)
{
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->database == database && session->pid != 0 &&
			OidIsValid(session->dboid) &&
			session->state == DBOPT_SESSION_BUSY &&
			session->job.kind == DBOPT_JOB_SUSPECTS)
			return true;
	}
	return false;
}

void
dbopt_solo_give_back(int database)
{
	bool		free;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	free = dbopt_shared->solo_owner == database + 1 &&
		!runs_suspects(database);
	if (free)
		dbopt_shared->solo_owner = 0;
	LWLockRelease(dbopt_shared->lock);
	if (free)
		dbopt_schedulers_wake();
}

bool
dbopt_solo_permits(int database)
{
	Assert(LWLockHeldByMe(dbopt_shared->lock));
	return dbopt_shared->solo_owner == 0 ||
		dbopt_shared->solo_owner == database + 1;
}

bool
dbopt_solo_is_others(int database)
{
	bool		others;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	others = !dbopt_solo_permits(database);
	LWLockRelease(dbopt_shared->lock);
	return others;
}

void
dbopt_solo_wake_owner(void)
{
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	if (dbopt_shared->solo_owner != 0)
	{
		DbOptDatabase *owner =
		dbopt_database_slot(dbopt_shared->solo_owner - 1);

		if (owner->scheduler_pid != 0)
			dbopt_process_wake(owner->scheduler_procno);
	}
	LWLockRelease(dbopt_shared->lock);
}

static bool
runs_events(const DbOptSession *session)
{
	if (!OidIsValid(session->dboid) ||
		session->job.kind == DBOPT_JOB_NONE ||
		session->job.kind == DBOPT_JOB_SQL)
		return false;

	/* One at work that was told to go is STOPPING. */
	return session->state == DBOPT_SESSION_BUSY ||
		(session->state == DBOPT_SESSION_STOPPING && session->pid != 0);
}

bool
dbopt_solo_is_quiet(void)
{
	bool		quiet = true;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions && quiet; i++)
		quiet = !runs_events(dbopt_session_slot(i));
	LWLockRelease(dbopt_shared->lock);
	return quiet;
}
