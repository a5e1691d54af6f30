/*
 * reclaim.c
 *		Having another database give up a session, for want of a slot.
 *
 * Run by schedulers and by the launcher; takes dbopt_shared->lock.
 */
#include "postgres.h"

#include "state/news.h"
#include "state/reclaim.h"

/* What the databases have, by their slots. */
typedef struct Shares
{
	int			idle[DBOPT_MAX_DATABASES];
	int			all[DBOPT_MAX_DATABASES];
} Shares;

static void
count_sessions(Shares *shares, Oid but)
{
	memset(shares, 0, sizeof(*shares));
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (!OidIsValid(session->dboid) || session->dboid == but)
			continue;
		shares->all[session->database]++;
		if (session->state == DBOPT_SESSION_IDLE)
			shares->idle[session->database]++;
	}
}

/*
 * The one with the most idle sessions, else the one with the most sessions if
 * they are more than a fair share; -1: none.
 */
static int
best_giver(const Shares *shares, int slot)
{
	int			running = 0;
	int			best = -1;

	for (int i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		if (dbopt_database_slot(i)->scheduler_pid == 0)
			continue;
		running++;
		if (best < 0 || shares->idle[i] > shares->idle[best] ||
			(shares->idle[i] == shares->idle[best] &&
			 shares->all[i] > shares->all[best]))
			best = i;
	}
	if (best < 0 || best == slot ||
		(shares->idle[best] == 0 &&
		 shares->all[best] <= dbopt_shared->max_sessions / running))
		return -1;
	return best;
}

void
dbopt_reclaim_session(int slot)
{
	Shares		shares;
	int			giver;
	int			procno = -1;

	pg_atomic_write_u32(&dbopt_database_slot(slot)->wants_session, 1);
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	count_sessions(&shares, dbopt_database_slot(slot)->dboid);
	giver = best_giver(&shares, slot);
	if (giver >= 0)
		procno = dbopt_database_slot(giver)->scheduler_procno;
	LWLockRelease(dbopt_shared->lock);

	if (giver >= 0)
	{
		pg_atomic_write_u32(&dbopt_database_slot(giver)->reclaim, 1);
		dbopt_process_wake(procno);
	}
}
