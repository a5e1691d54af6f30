/*
 * pooled_wait.c
 *		Why a caller has no session, and whether it waits for itself.
 *
 * Run by callers.  What is in shared memory is copied out under
 * dbopt_shared->lock.
 */
#include "postgres.h"

#include "engine/pooled.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "state/caller.h"
#include "state/guc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- no session in time -------------------------------------------------- */

#define SHOWN_SESSIONS 10

typedef struct Usage
{
	bool		scheduler;		/* there is one */
	bool		wants_slot;		/* it found no worker slot */
	int			count;			/* of sessions that are there */
	int			busy;
	DbOptSession *sessions;		/* copies */
} Usage;

static void
look_at_pool(Usage *usage)
{
	DbOptDatabase *database;

	memset(usage, 0, sizeof(*usage));
	usage->sessions = palloc(dbopt_shared->max_sessions *
							 sizeof(DbOptSession));
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
	{
		usage->scheduler = database->scheduler_pid != 0;
		usage->wants_slot = pg_atomic_read_u32(&database->wants_session) != 0;
	}
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (session->dboid != MyDatabaseId)
			continue;
		usage->sessions[usage->count++] = *session;
		if (session->state == DBOPT_SESSION_BUSY)
			usage->busy++;
	}
	LWLockRelease(dbopt_shared->lock);
}

/* By whom they are used, as far as the text should go. */
static char *
describe_users(const Usage *usage)
{
	StringInfoData text;
	int			shown = 0;

	initStringInfo(&text);
	for (int i = 0; i < usage->count && shown < SHOWN_SESSIONS; i++)
	{
		const DbOptSession *session = &usage->sessions[i];
		const char *role = GetUserNameFromId(session->roleid, true);

		if (session->state != DBOPT_SESSION_BUSY)
			continue;
		appendStringInfo(&text, "%s%s %s (PID %d)", shown++ > 0 ? ", " : "",
						 session->job.kind == DBOPT_JOB_SQL ? "a caller of role" :
						 session->job.handler_id > 0 ? "a handler of role" :
						 "an index build of role",
						 role == NULL ? "?" : role, (int) session->pid);
	}
	if (usage->busy > shown)
		appendStringInfo(&text, " and %d more", usage->busy - shown);
	return text.data;
}

/* Sessions that run SQL of this role's callers. */
static int
calls_of_role(const Usage *usage, Oid roleid)
{
	int			count = 0;

	for (int i = 0; i < usage->count; i++)
		if (usage->sessions[i].state == DBOPT_SESSION_BUSY &&
			usage->sessions[i].roleid == roleid &&
			usage->sessions[i].job.kind == DBOPT_JOB_SQL)
			count++;
	return count;
}

static char *
find_reason(const DbOptCaller *caller, char **hint)
{
	int			max = dbopt_pool_limits().max;
	Usage		usage;

	look_at_pool(&usage);
	*hint = "dbopt_pool_sessions() shows what the pool does.";
	if (!usage.scheduler)
	{
		*hint = "It is started when the extension has been created and committed; the server log tells when it fails.";
		return "This database has no dbopt scheduler at present.";
	}
	if (caller->error[0] != '\0')
		return psprintf("The last session could not be created: %s (SQLSTATE %s).",
						caller->error, caller->error_code);
	if (caller->role_limit >= 0 && calls_of_role(&usage, caller->roleid) >=
		caller->role_limit)
	{
		*hint = "Use ALTER ROLE ... CONNECTION LIMIT to allow more.";
		return psprintf("Callers of role %s use as many sessions as its CONNECTION LIMIT allows: %d.",
						GetUserNameFromId(caller->roleid, false),
						caller->role_limit);
	}
	if (usage.busy >= max)
	{
		*hint = "Consider increasing dbopt.pool_max.";
		return psprintf("All sessions are in use (%d): %s.",
						usage.busy, describe_users(&usage));
	}
	if (usage.wants_slot)
	{
		*hint = "Consider increasing max_worker_processes or dbopt.max_workers.";
		return psprintf("No background worker slot is free; sessions in use: %d.",
						usage.busy);
	}
	if (usage.busy > 0)
		return psprintf("Sessions in use (%d of %d): %s; the others are kept for events, or are still being created.",
						usage.busy, max, describe_users(&usage));
	return "The session for this role is still being created.";
}

void
dbopt_pooled_raise_no_session(const DbOptCaller *caller)
{
	char	   *hint;
	char	   *reason = find_reason(caller, &hint);

	ereport(ERROR,
			(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			 errmsg("no pool session was available within %d ms",
					dbopt_pool_limits().acquire_timeout),
			 errdetail_internal("%s", reason),
			 errhint("%s", hint)));
}

/* ---- waiting for oneself ------------------------------------------------- */

/*
 * The processes that this backend waits for, directly or by way of others,
 * with the place of the one that led to each.
 */
typedef struct Search
{
	int			count;
	int			size;
	pid_t	   *pids;
	int		   *from;
	int			back;			/* the place that leads back to the first; -1 */
} Search;

static void
add_process(Search *search, pid_t pid, int from)
{
	if (search->count > 0 && search->pids[0] == pid)
		search->back = from;
	for (int i = 0; i < search->count; i++)
		if (search->pids[i] == pid)
			return;
	if (search->count == search->size)
	{
		search->size *= 2;
		search->pids = repalloc(search->pids, search->size * sizeof(pid_t));
		search->from = repalloc(search->from, search->size * sizeof(int));
	}
	search->pids[search->count] = pid;
	search->from[search->count++] = from;
}

static void
add_blockers(Search *search, int place, PGFunction function)
{
	Datum		array = DirectFunctionCall1(function,
											Int32GetDatum((int32) search->pids[place]));
	ArrayType  *blockers = DatumGetArrayTypeP(array);
	int			count = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));
	int32	   *pids = (int32 *) ARR_DATA_PTR(blockers);

	for (int i = 0; i < count; i++)
		if (pids[i] != 0)		/* a prepared transaction */
			add_process(search, pids[i], place);
}

/* Whom does this process wait for?  Locks, and sessions that run its SQL. */
static void
expand(Search *search, int place)
{
	bool		victim;
	pid_t		session = dbopt_caller_waits_for(search->pids[place], &victim);

	if (victim)
		return;
	if (session != 0)
		add_process(search, session, place);
	else
	{
		add_blockers(search, place, pg_blocking_pids);
		add_blockers(search, place, pg_safe_snapshot_blocking_pids);
	}
}

/* Does the search come back to this backend? */
static bool
find_cycle(Search *search)
{
	search->back = -1;
	add_process(search, MyProcPid, -1);
	for (int place = 0; place < search->count && search->back < 0; place++)
		expand(search, place);
	return search->back >= 0;
}

static void
raise_deadlock(const Search *search)
{
	StringInfoData detail;
	pid_t		next = MyProcPid;

	initStringInfo(&detail);
	for (int place = search->back; place > 0; place = search->from[place])
	{
		appendStringInfo(&detail, "; process %d waits for process %d",
						 (int) search->pids[place], (int) next);
		next = search->pids[place];
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
			 errmsg("deadlock detected"),
			 errdetail("Process %d waits for its pool session%s.",
					   MyProcPid, detail.data),
			 errhint("What a transaction has locked cannot be used by another one that it waits for.")));
}

/* Asked again and again while the session is at work, be it for days. */
void
dbopt_pooled_check_deadlock(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "dbopt deadlock search",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	Search		search = {.size = 16};

	search.pids = palloc(search.size * sizeof(pid_t));
	search.from = palloc(search.size * sizeof(int));
	if (find_cycle(&search) &&
		dbopt_caller_become_victim(search.pids, search.count))
		raise_deadlock(&search);
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
}
