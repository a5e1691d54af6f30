/*
 * crew.c
 *		A scheduler's sessions: their slots in shared memory and this
 *		scheduler's picture of them.
 *
 * Run by the scheduler alone.  Slots are read and written under
 * dbopt_shared->lock, and everything is copied out before it is used.  A slot
 * whose generation has moved, or that is free, tells that the session has
 * gone.  Sessions of an earlier scheduler of this database get no jobs, but
 * count against its limits until they have left.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "state/news.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * Twice as many as there are slots: one that has gone is in the picture until
 * the next update, and its slot may have another session by then.
 */
static DbOptMember *members;
static int	capacity;
static int	nmembers = 0;

void
dbopt_crew_init(void)
{
	capacity = 2 * dbopt_shared->max_sessions;
	members = MemoryContextAllocZero(TopMemoryContext,
									 capacity * sizeof(DbOptMember));
	dbopt_crew_roles_init();
}

static void
forget_handle(DbOptMember *member)
{
	if (member->handle != NULL)
		pfree(member->handle);
	member->handle = NULL;
}

/*
 * Called with a member that has gone; the last one takes its place.
 */
static void
remove_member(DbOptMember *member)
{
	forget_handle(member);
	*member = members[--nmembers];
}

static List *
add_report(List *reports, const DbOptMember *member,
		   const DbOptJobResult *result)
{
	DbOptReport *report = palloc0(sizeof(DbOptReport));

	report->job = member->job;
	report->lost = result == NULL;
	if (result != NULL)
		report->result = *result;
	return lappend(reports, report);
}

/*
 * Frees the slot of a session that the postmaster could not start.
 */
static bool
clear_stillborn(DbOptMember *member)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);
	pid_t		pid;
	bool		cleared = false;

	if (GetBackgroundWorkerPid(member->handle, &pid) != BGWH_STOPPED)
		return false;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (session->generation == member->target.generation &&
		session->pid == 0)
	{
		session->dboid = InvalidOid;
		session->state = DBOPT_SESSION_FREE;
		cleared = true;
	}
	LWLockRelease(dbopt_shared->lock);
	return cleared;
}

bool
dbopt_crew_calling(const DbOptMember *member)
{
	return member->state == DBOPT_SESSION_BUSY &&
		member->job.kind == DBOPT_JOB_SQL;
}

/*
 * A session has gone, as it was told or not.
 */
static void
handle_end(const DbOptMember *member, List **reports, TimestampTz now)
{
	if (member->state == DBOPT_SESSION_STARTING)
	{
		dbopt_crew_count(DBOPT_POOL_CREATE_FAIL);
		dbopt_crew_put_off(member, now);
		return;
	}
	if (member->state != DBOPT_SESSION_STOPPING || !member->overdue)
		dbopt_crew_count(DBOPT_POOL_DESTROY_SUCCESS);
	if (member->state == DBOPT_SESSION_BUSY)
	{
		if (!dbopt_crew_calling(member))
			dbopt_crew_log("a dbopt session has died at work", member->role, "",
						   0, 0);
		*reports = add_report(*reports, member, NULL);
	}
}

/* A caller has taken this session by itself, between two rounds. */
static void
note_taken(DbOptMember *member, const DbOptJob *job, TimestampTz since)
{
	member->state = DBOPT_SESSION_BUSY;
	member->since = since;
	member->job = *job;
	member->priority = PG_INT32_MAX;
	member->promoted = false;
	member->yield = false;
}

/*
 * Compares a member with its slot.  False: it has gone, and was removed.
 */
static bool
update_member(DbOptMember *member, List **reports, TimestampTz now)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);
	DbOptSessionState state;
	DbOptJobResult result;
	DbOptJob	job;
	TimestampTz since;
	bool		gone;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	gone = !OidIsValid(session->dboid) ||
		session->generation != member->target.generation;
	state = session->state;
	result = session->result;
	job = session->job;
	since = session->since;
	if (!gone && state == DBOPT_SESSION_IDLE)
		pg_atomic_write_u32(&session->unseen, 0);
	LWLockRelease(dbopt_shared->lock);

	if (!gone && member->state == DBOPT_SESSION_STARTING &&
		state == DBOPT_SESSION_STARTING)
		gone = clear_stillborn(member);
	if (gone)
	{
		handle_end(member, reports, now);
		remove_member(member);
		return false;
	}
	if (state == DBOPT_SESSION_BUSY && member->state == DBOPT_SESSION_IDLE)
		note_taken(member, &job, since);
	if (state != DBOPT_SESSION_IDLE || member->state == DBOPT_SESSION_STOPPING)
		return true;

	if (member->state == DBOPT_SESSION_STARTING)
	{
		dbopt_crew_count(DBOPT_POOL_CREATE_SUCCESS);
		dbopt_crew_role(member->role)->failures = 0;
		forget_handle(member);
	}
	else if (member->state == DBOPT_SESSION_BUSY)
	{
		*reports = add_report(*reports, member, &result);
	}
	member->state = DBOPT_SESSION_IDLE;
	member->since = since;
	member->job = job;			/* the last one */
	member->yield = false;
	if (member->outdated)
		dbopt_crew_retire(member, now);
	return true;
}

static void
count_roles(TimestampTz now)
{
	DbOptCrewRole *role;
	int			i;

	dbopt_crew_roles_clear(now);
	for (i = 0; i < nmembers; i++)
	{
		role = dbopt_crew_role(members[i].role);
		if (members[i].state != DBOPT_SESSION_STOPPING)
			role->alive++;
		if (members[i].state == DBOPT_SESSION_STARTING)
			role->starting++;
		if (dbopt_crew_calling(&members[i]))
			role->calls++;
	}
}

List *
dbopt_crew_update(TimestampTz now)
{
	List	   *reports = NIL;
	int			i = 0;

	while (i < nmembers)
	{
		if (update_member(&members[i], &reports, now))
			i++;
	}
	count_roles(now);
	dbopt_crew_update_strangers();
	return reports;
}

int
dbopt_crew_size(void)
{
	return nmembers;
}

/*
 * Takes a session that is about to start into the picture.
 */
void
dbopt_crew_add(DbOptCrewRole *role, DbOptWorkerTarget target,
			   BackgroundWorkerHandle *handle, TimestampTz now)
{
	DbOptMember *member;

	if (nmembers == capacity)
		elog(ERROR, "more dbopt sessions than slots");
	member = &members[nmembers++];
	memset(member, 0, sizeof(*member));
	member->target = target;
	member->role = role->role;
	member->state = DBOPT_SESSION_STARTING;
	member->since = now;
	member->handle = handle;
	role->alive++;
	role->starting++;
}

DbOptMember *
dbopt_crew_member(int number)
{
	Assert(number >= 0 && number < nmembers);
	return &members[number];
}

static int
count_members(DbOptSessionState state)
{
	int			count = 0;
	int			i;

	for (i = 0; i < nmembers; i++)
		if (members[i].state == state)
			count++;
	return count;
}

int
dbopt_crew_leaving(void)
{
	return count_members(DBOPT_SESSION_STOPPING);
}

int
dbopt_crew_busy(void)
{
	return count_members(DBOPT_SESSION_BUSY);
}

int
dbopt_crew_calls(void)
{
	int			count = 0;

	for (int i = 0; i < nmembers; i++)
		if (dbopt_crew_calling(&members[i]))
			count++;
	return count;
}

bool
dbopt_crew_works_for(int32 handler_id)
{
	for (int i = 0; i < nmembers; i++)
		if (members[i].state == DBOPT_SESSION_BUSY &&
			members[i].job.handler_id == handler_id)
			return true;
	return dbopt_crew_strangers(handler_id) > 0;
}

int
dbopt_crew_alive(void)
{
	return nmembers - dbopt_crew_leaving();
}

/*
 * Is there one at work that is to leave when it is done?
 */
bool
dbopt_crew_outdated(void)
{
	for (int i = 0; i < nmembers; i++)
		if (members[i].outdated && members[i].state != DBOPT_SESSION_STOPPING)
			return true;
	return false;
}

/*
 * The idle session of this role that worked last: its caches are warm, and the
 * others can reach their idle timeout.
 */
DbOptMember *
dbopt_crew_idle(Oid role)
{
	DbOptMember *best = NULL;
	int			i;

	for (i = 0; i < nmembers; i++)
	{
		DbOptMember *member = &members[i];

		if (member->state == DBOPT_SESSION_IDLE && member->role == role &&
			(best == NULL || member->since > best->since))
			best = member;
	}
	return best;
}
