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

#include "state/circuit.h"
#include "state/log_line.h"
#include "state/solo.h"
#include "utils/timestamp.h"

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

static void
leave_turn(int database, bool running)
{
	bool		free;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	free = dbopt_shared->solo_owner == database + 1 &&
		(running || !runs_suspects(database));
	if (free)
		dbopt_shared->solo_owner = 0;
	LWLockRelease(dbopt_shared->lock);
	if (free)
		dbopt_schedulers_wake();
}

void
dbopt_solo_give_back(int database)
{
	leave_turn(database, false);
}

void
dbopt_solo_share(int database)
{
	leave_turn(database, true);
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

/* The slot of the handler that a session is at work for; NULL: none. */
static DbOptHandlerState *
handler_at_work(const DbOptSession *session)
{
	int			number = session->job.handler_id <= 0 ? -1 :
	dbopt_handler_find_locked(session->dboid, session->job.handler_id);

	return number < 0 ? NULL : dbopt_handler_slot(number);
}

static void
log_stall(const NameData *names, int count)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_HANDLER,
		.slot = -1,
		.hint = "Give handlers that may take long a timeout."
	};

	for (int i = 0; i < count; i++)
	{
		line.message = psprintf("handler \"%s\" gets no more events until a suspect of a crash has run alone",
								NameStr(names[i]));
		line.handler = NameStr(names[i]);
		dbopt_log_line(&line);
	}
}

bool
dbopt_solo_stall(int database)
{
	NameData   *names = palloc(sizeof(NameData) * dbopt_shared->max_sessions);
	int			count = 0;
	bool		all = true;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);
		DbOptHandlerState *state;

		if (!runs_events(session))
			continue;
		state = handler_at_work(session);
		if (state == NULL)
			all = false;
		else if (pg_atomic_exchange_u32(&state->stalled_by, database + 1) == 0)
			names[count++] = state->name;
	}
	LWLockRelease(dbopt_shared->lock);
	log_stall(names, count);
	pfree(names);
	return all;
}

/* True: it was the database's. */
static bool
clear(pg_atomic_uint32 *of, int database)
{
	uint32		expected = database + 1;

	return pg_atomic_compare_exchange_u32(of, &expected, 0);
}

void
dbopt_solo_unstall(int database)
{
	bool		any = false;

	for (int i = 0; i < dbopt_shared->max_handlers; i++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(i);

		clear(&state->excused_by, database);
		any |= clear(&state->stalled_by, database);
	}
	if (any)
		dbopt_schedulers_wake();
}

static bool
is_at_work(const DbOptHandlerState *state)
{
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);

		if (runs_events(session) && handler_at_work(session) == state)
			return true;
	}
	return false;
}

void
dbopt_solo_excuse(int database)
{
	uint32		mine = database + 1;
	bool		any = false;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_handlers; i++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(i);

		if (pg_atomic_read_u32(&state->stalled_by) != mine ||
			pg_atomic_read_u32(&state->excused_by) == mine ||
			is_at_work(state))
			continue;
		pg_atomic_write_u32(&state->excused_by, mine);
		any |= clear(&state->stalled_by, database);
	}
	LWLockRelease(dbopt_shared->lock);
	if (any)
		dbopt_schedulers_wake();
}

bool
dbopt_solo_stalled_at_work(int database)
{
	bool		found = false;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions && !found; i++)
	{
		DbOptSession *session = dbopt_session_slot(i);
		DbOptHandlerState *state = runs_events(session) ?
		handler_at_work(session) : NULL;

		found = state != NULL &&
			pg_atomic_read_u32(&state->stalled_by) == database + 1;
	}
	LWLockRelease(dbopt_shared->lock);
	return found;
}

bool
dbopt_solo_is_stalled(int handler_slot)
{
	return handler_slot >= 0 &&
		pg_atomic_read_u32(&dbopt_handler_slot(handler_slot)->stalled_by) != 0;
}
