/*
 * crew_orders.c
 *		What a scheduler tells its sessions, and what it sees of their work.
 *
 * Run by the scheduler alone.  Orders go through the slots in shared memory,
 * under dbopt_shared->lock, and a latch; a session that has gone meanwhile is
 * noticed by its slot's generation.
 */
#include "postgres.h"

#include <signal.h>

#include "engine/crew.h"
#include "miscadmin.h"
#include "state/caller.h"
#include "state/guc.h"
#include "state/pool.h"
#include "state/solo.h"
#include "utils/timestamp.h"

/* Sessions have this long to go even if dbopt.shutdown_timeout is shorter. */
#define MIN_STOP_MS 1000

/* ---- orders -------------------------------------------------------------- */

/*
 * A caller counts its request itself, and that it failed.
 */
static void
count_acquisition(bool succeeded, bool calls)
{
	if (!calls)
		dbopt_crew_count(DBOPT_POOL_ACQUIRE_REQUEST);
	if (succeeded)
		dbopt_crew_count(DBOPT_POOL_ACQUIRE_SUCCESS);
	else if (!calls)
		dbopt_crew_count(DBOPT_POOL_ACQUIRE_FAIL);
}

/*
 * False: the session has just gone, or the caller, or another database has the
 * turn.
 */
bool
dbopt_crew_assign(DbOptMember *member, const DbOptJob *job, int priority,
				  TimestampTz now)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);
	bool		calls = job->kind == DBOPT_JOB_SQL;
	bool		ready;
	int			procno;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	ready = session->generation == member->target.generation &&
		session->state == DBOPT_SESSION_IDLE &&
		(calls ? dbopt_caller_serve(job, member->target.slot,
									GetCurrentTimestamp()) :
		 dbopt_solo_permits(session->database));
	procno = session->procno;
	if (ready)
		dbopt_session_give(session, job, now);
	LWLockRelease(dbopt_shared->lock);
	count_acquisition(ready, calls);
	if (!ready)
		return false;

	dbopt_process_wake(procno);
	member->state = DBOPT_SESSION_BUSY;
	member->since = now;
	member->job = *job;
	member->priority = priority;
	member->promoted = false;
	member->yield = false;
	return true;
}

/*
 * Tells an idle session to go.
 */
void
dbopt_crew_retire(DbOptMember *member, TimestampTz now)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);
	int			procno = -1;

	Assert(member->state == DBOPT_SESSION_IDLE);
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (session->generation == member->target.generation &&
		session->state == DBOPT_SESSION_IDLE)
	{
		session->state = DBOPT_SESSION_STOPPING;
		session->since = now;
		procno = session->procno;
	}
	LWLockRelease(dbopt_shared->lock);

	if (procno >= 0)
		dbopt_process_wake(procno);
	dbopt_crew_count(DBOPT_POOL_DESTROY_REQUEST);
	member->state = DBOPT_SESSION_STOPPING;
	member->since = now;
	dbopt_crew_role(member->role)->alive--;
}

/*
 * Could this session be asked to give way?  A build cannot stop half-way, nor
 * a caller's statement.
 */
bool
dbopt_crew_could_yield(const DbOptMember *member)
{
	return member->state == DBOPT_SESSION_BUSY && !member->yield &&
		member->job.kind != DBOPT_JOB_INDEX &&
		member->job.kind != DBOPT_JOB_LOG_INDEX &&
		member->job.kind != DBOPT_JOB_SQL;
}

void
dbopt_crew_ask_to_yield(DbOptMember *member)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);

	/* Should the slot have another session by now, that one loses little. */
	pg_atomic_write_u32(&session->yield, 1);
	member->yield = true;
}

static bool
builds(const DbOptSession *session, const char *index)
{
	return session->dboid == MyDatabaseId && session->pid != 0 &&
		session->state == DBOPT_SESSION_BUSY &&
		session->job.kind == DBOPT_JOB_INDEX &&
		strcmp(NameStr(session->job.index), index) == 0;
}

void
dbopt_crew_cancel_build(const char *index, uint64 declaration)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (!builds(session, index))
			continue;
		pg_atomic_write_u64(&session->cancel, declaration);
		kill(session->pid, SIGINT);
	}
	LWLockRelease(dbopt_shared->lock);
}

/*
 * Has every session that is there make way for another: they have begun with
 * settings that are not what they were.
 */
void
dbopt_crew_outdate(TimestampTz now)
{
	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		member->outdated = true;
		if (member->state == DBOPT_SESSION_IDLE)
			dbopt_crew_retire(member, now);
		else if (dbopt_crew_could_yield(member))
			dbopt_crew_ask_to_yield(member);
	}
}

/* How long a session may take to connect, or to go; milliseconds, -1: no limit. */
static int
time_limit(const DbOptMember *member, int create_timeout)
{
	if (member->state == DBOPT_SESSION_STARTING)
		return create_timeout;
	if (member->state == DBOPT_SESSION_STOPPING && !member->overdue)
		return Max(dbopt_shutdown_timeout, MIN_STOP_MS);
	return -1;
}

/* Terminates one that does not go as it was told, which is tried once. */
static void
force_out(const DbOptMember *member)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	if (session->generation == member->target.generation && session->pid != 0)
		kill(session->pid, SIGTERM);
	LWLockRelease(dbopt_shared->lock);
	dbopt_crew_count(DBOPT_POOL_DESTROY_FAIL);
}

static void
end_overdue(DbOptMember *member, TimestampTz now)
{
	bool		starting = member->state == DBOPT_SESSION_STARTING;

	if (starting)
		TerminateBackgroundWorker(member->handle);
	else
		force_out(member);
	if (!starting || dbopt_crew_role(member->role)->failures == 0)
		dbopt_crew_log(starting ?
					   "a new dbopt session has not connected in time, and is ended" :
					   "a dbopt session has not ended in time, and is terminated",
					   member->role, "", 0, now - member->since);
	member->overdue = true;
	member->since = now;
}

/*
 * Ends sessions that take too long to connect, or to go.  Returns when to look
 * again.
 */
TimestampTz
dbopt_crew_end_overdue(int create_timeout, TimestampTz now)
{
	TimestampTz next = DBOPT_NEVER;

	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		int			limit = time_limit(member, create_timeout);

		if (limit >= 0 &&
			TimestampTzPlusMilliseconds(member->since, limit) <= now)
		{
			end_overdue(member, now);
			limit = time_limit(member, create_timeout);
		}
		if (limit >= 0)
			next = Min(next, TimestampTzPlusMilliseconds(member->since, limit));
	}
	return next;
}

/* ---- what sessions at work have seen ------------------------------------- */

uint64
dbopt_crew_looked_at(int32 cursor_id)
{
	uint64		result = 0;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		DbOptSession *session = dbopt_session_slot(member->target.slot);

		if (member->state == DBOPT_SESSION_BUSY &&
			member->job.kind == DBOPT_JOB_DELIVER &&
			member->job.cursor_id == cursor_id)
			result = Max(result, pg_atomic_read_u64(&session->looked_at));
	}
	return result;
}

bool
dbopt_crew_wants_help(const DbOptMember *member)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);

	return member->state == DBOPT_SESSION_BUSY &&
		pg_atomic_read_u32(&session->more) != 0;
}

/*
 * Another session has been sent to this job; they will say so if they see
 * still more.
 */
void
dbopt_crew_help_sent(const DbOptJob *job)
{
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		DbOptSession *session = dbopt_session_slot(member->target.slot);

		if (member->state == DBOPT_SESSION_BUSY &&
			member->job.kind == job->kind &&
			member->job.handler_id == job->handler_id &&
			member->job.cursor_id == job->cursor_id)
			pg_atomic_write_u32(&session->more, 0);
	}
}
