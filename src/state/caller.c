/*
 * caller.c
 *		The queue of backends that wait for a pool session, and who serves
 *		whom.
 *
 * A caller that finds an idle session of its role may take it by itself
 * (caller_take.c); else it waits for its turn.
 *
 * Run by callers, schedulers and sessions, under dbopt_shared->lock.  A call is
 * known by its ticket, which no other call has, so that what comes late finds
 * out.
 */
#include "postgres.h"

#include <signal.h>

#include "compat.h"
#include "miscadmin.h"
#include "state/caller.h"
#include "state/database.h"
#include "state/news.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

static DbOptCaller *
my_slot(void)
{
	return dbopt_caller_slot(DBOPT_MY_PROC_NUMBER);
}

/* ---- the caller ---------------------------------------------------------- */

/* Counts an event of this database's pool. */
static void
count(DbOptPoolEvent event)
{
	DbOptDatabase *database = dbopt_database_find(MyDatabaseId);

	Assert(LWLockHeldByMe(dbopt_shared->lock));
	if (database != NULL)
		pg_atomic_fetch_add_u64(&database->pool_events[event], 1);
}

void
dbopt_caller_enter(Oid roleid, int role_limit, dsm_handle segment,
				   shm_mq *queue)
{
	DbOptCaller *caller = my_slot();
	int			procno;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	count(DBOPT_POOL_ACQUIRE_REQUEST);
	memset(caller, 0, sizeof(*caller));
	caller->state = DBOPT_CALLER_WAITING;
	caller->dboid = MyDatabaseId;
	caller->roleid = roleid;
	caller->role_limit = role_limit;
	caller->ticket = ++dbopt_shared->last_ticket;
	caller->since = GetCurrentTimestamp();
	caller->pid = MyProcPid;
	caller->segment = segment;
	pg_atomic_fetch_add_u32(&dbopt_shared->callers, 1);
	procno = dbopt_caller_take_session(caller, queue);
	LWLockRelease(dbopt_shared->lock);
	if (procno >= 0)
		dbopt_process_wake(procno);
	else
		dbopt_scheduler_wake(MyDatabaseId);
}

void
dbopt_caller_look(DbOptCaller *copy)
{
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	*copy = *my_slot();
	LWLockRelease(dbopt_shared->lock);
}

/*
 * The session that it was given to has not begun.  It asks for another one, and
 * keeps its ticket, and so comes before all who are still waiting.
 */
void
dbopt_caller_wait_again(void)
{
	DbOptCaller *caller = my_slot();

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	Assert(caller->state == DBOPT_CALLER_RETURNED);
	count(DBOPT_POOL_ACQUIRE_REQUEST);
	caller->state = DBOPT_CALLER_WAITING;
	caller->awake = false;
	caller->error_code[0] = caller->error[0] = '\0';
	pg_atomic_fetch_add_u32(&dbopt_shared->callers, 1);
	LWLockRelease(dbopt_shared->lock);
	dbopt_scheduler_wake(MyDatabaseId);
}

/*
 * The session's last word is here: there is nothing to cancel.
 */
void
dbopt_caller_answered(void)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	my_slot()->state = DBOPT_CALLER_NONE;
	LWLockRelease(dbopt_shared->lock);
}

/*
 * The session looks at what the signal was meant for, which may be over when
 * it arrives.
 */
static void
cancel_session(const DbOptCaller *caller)
{
	DbOptSession *session = dbopt_session_slot(caller->session);

	if (session->generation != caller->session_generation ||
		!OidIsValid(session->dboid) || session->pid == 0 ||
		session->job.kind != DBOPT_JOB_SQL ||
		session->job.ticket != caller->ticket)
		return;
	pg_atomic_write_u64(&session->cancel, caller->ticket);
	kill(session->pid, SIGINT);
}

void
dbopt_caller_leave(void)
{
	DbOptCaller *caller = my_slot();
	DbOptCallerState state;

	if (caller->state == DBOPT_CALLER_NONE)
		return;					/* which nobody else changes */
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	state = caller->state;
	if (state == DBOPT_CALLER_WAITING)
	{
		pg_atomic_fetch_sub_u32(&dbopt_shared->callers, 1);
		count(DBOPT_POOL_ACQUIRE_FAIL);
	}
	if (state == DBOPT_CALLER_SERVED)
		cancel_session(caller);
	caller->state = DBOPT_CALLER_NONE;
	LWLockRelease(dbopt_shared->lock);
	if (state == DBOPT_CALLER_WAITING)
		dbopt_scheduler_wake(MyDatabaseId);
}

/* ---- the scheduler ------------------------------------------------------- */

static int
compare_tickets(const void *a, const void *b)
{
	uint64		left = ((const DbOptWaitingCaller *) a)->ticket;
	uint64		right = ((const DbOptWaitingCaller *) b)->ticket;

	return left < right ? -1 : left > right ? 1 : 0;
}

DbOptWaitingCaller *
dbopt_callers_waiting(Oid dboid, int *count)
{
	DbOptWaitingCaller *waiting;

	*count = 0;
	if (pg_atomic_read_u32(&dbopt_shared->callers) == 0)
		return NULL;
	waiting = palloc(dbopt_shared->max_callers * sizeof(DbOptWaitingCaller));
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_callers; i++)
	{
		DbOptCaller *caller = dbopt_caller_slot(i);
		DbOptWaitingCaller *entry = &waiting[*count];

		if (caller->state != DBOPT_CALLER_WAITING || caller->dboid != dboid)
			continue;
		entry->slot = i;
		entry->roleid = caller->roleid;
		entry->role_limit = caller->role_limit;
		entry->ticket = caller->ticket;
		entry->since = caller->since;
		entry->segment = caller->segment;
		(*count)++;
	}
	LWLockRelease(dbopt_shared->lock);
	qsort(waiting, *count, sizeof(DbOptWaitingCaller), compare_tickets);
	return waiting;
}

void
dbopt_callers_tell(Oid dboid, Oid roleid, const char *error_code,
				   const char *error)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dbopt_shared->max_callers; i++)
	{
		DbOptCaller *caller = dbopt_caller_slot(i);

		if (caller->state != DBOPT_CALLER_WAITING ||
			caller->dboid != dboid || caller->roleid != roleid)
			continue;
		strlcpy(caller->error_code, error_code, sizeof(caller->error_code));
		strlcpy(caller->error, error, sizeof(caller->error));
	}
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_caller_serve(const DbOptJob *job, int session, TimestampTz now)
{
	DbOptCaller *caller = dbopt_caller_slot(job->caller);

	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));
	if (caller->state != DBOPT_CALLER_WAITING ||
		caller->ticket != job->ticket)
		return false;
	caller->state = DBOPT_CALLER_SERVED;
	caller->session = session;
	caller->session_generation = dbopt_session_slot(session)->generation;
	dbopt_database_count_acquire(dbopt_database_slot(dbopt_session_slot(session)->database),
								 now - caller->since);
	pg_atomic_fetch_sub_u32(&dbopt_shared->callers, 1);
	return true;
}

void
dbopt_caller_lose(const DbOptJob *job, bool begun)
{
	DbOptCaller *caller = dbopt_caller_slot(job->caller);

	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));
	if (caller->state != DBOPT_CALLER_SERVED ||
		caller->ticket != job->ticket)
		return;
	caller->state = begun ? DBOPT_CALLER_LOST : DBOPT_CALLER_RETURNED;
	dbopt_process_wake(job->caller);
}

/* ---- deadlocks ----------------------------------------------------------- */

static DbOptCaller *
find_served(pid_t pid)
{
	for (int i = 0; i < dbopt_shared->max_callers; i++)
	{
		DbOptCaller *caller = dbopt_caller_slot(i);

		if (caller->state == DBOPT_CALLER_SERVED && caller->pid == pid)
			return caller;
	}
	return NULL;
}

pid_t
dbopt_caller_waits_for(pid_t pid, bool *victim)
{
	DbOptCaller *caller;
	pid_t		session = 0;

	*victim = false;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	caller = find_served(pid);
	if (caller != NULL &&
		dbopt_session_slot(caller->session)->generation ==
		caller->session_generation &&
		dbopt_session_slot(caller->session)->job.ticket == caller->ticket)
	{
		session = dbopt_session_slot(caller->session)->pid;
		*victim = caller->victim;
	}
	LWLockRelease(dbopt_shared->lock);
	return session;
}

bool
dbopt_caller_become_victim(const pid_t *others, int count)
{
	bool		chosen = true;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < count && chosen; i++)
	{
		DbOptCaller *other = find_served(others[i]);

		chosen = other == NULL || !other->victim;
	}
	my_slot()->victim = chosen;
	LWLockRelease(dbopt_shared->lock);
	return chosen;
}
