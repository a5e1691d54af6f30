/*
 * pool.c
 *		What a running job may ask of, and tell, its session's slot.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "state/circuit.h"
#include "state/news.h"
#include "state/pool.h"
#include "state/stats.h"

DbOptSession *dbopt_my_session = NULL;

static TimestampTz first_retry_at = DT_NOEND;	/* not known to the scheduler */
static volatile uint64 declaration_built = 0;	/* 0: none */

/*
 * To be asked before each hand-out: what was committed before this call is
 * found by that hand-out, so that no other session need be sent for it.  True:
 * end the job as soon as the present work is settled, saying DBOPT_JOB_MORE.
 */
bool
dbopt_session_should_yield(void)
{
	DbOptDatabase *database;

	if (dbopt_my_session == NULL)
		return false;
	database = dbopt_database_slot(dbopt_my_session->database);
	pg_atomic_write_u64(&dbopt_my_session->looked_at,
						pg_atomic_read_u64(&database->news_taken));
	pg_memory_barrier();
	return pg_atomic_read_u32(&dbopt_my_session->yield) != 0 ||
		first_retry_at != DT_NOEND ||
		ConfigReloadPending;
}

/*
 * There is more work of this job's kind than this session takes at a time:
 * another one may help.
 */
void
dbopt_session_more_work(void)
{
	if (dbopt_my_session == NULL)
		return;
	if (pg_atomic_exchange_u32(&dbopt_my_session->more, 1) == 0)
		dbopt_scheduler_wake(dbopt_my_session->dboid);
}

static void
note_handler(int handler_slot)
{
	dbopt_my_session->handler_slot = handler_slot;
	dbopt_my_session->handler_generation =
		dbopt_handler_slot(handler_slot)->generation;
}

/*
 * Notes what the exit callback has to give back should the session die.
 */
void
dbopt_session_hold(int handler_slot, const DbOptAdmission *admission)
{
	if (dbopt_my_session == NULL || handler_slot < 0)
		return;
	note_handler(handler_slot);
	dbopt_my_session->admission = *admission;
}

void
dbopt_session_release(void)
{
	declaration_built = 0;
	if (dbopt_my_session != NULL)
		dbopt_my_session->admission.granted = 0;
}

void
dbopt_session_in_flight(int handler_slot, int delta)
{
	dbopt_stats_in_flight(handler_slot, delta);
	if (dbopt_my_session == NULL || handler_slot < 0)
		return;
	note_handler(handler_slot);
	dbopt_my_session->in_flight += delta;
}

/* Unless the handler's slot has another owner by now. */
void
dbopt_session_land(void)
{
	DbOptSession *session = dbopt_my_session;

	if (session == NULL || session->in_flight == 0)
		return;
	if (dbopt_handler_slot(session->handler_slot)->generation ==
		session->handler_generation)
		dbopt_stats_in_flight(session->handler_slot, -session->in_flight);
	session->in_flight = 0;
}

void
dbopt_session_retry_at(int handler_slot, TimestampTz at)
{
	if (handler_slot >= 0)
		dbopt_handler_retry_at(handler_slot, at);
	else
		first_retry_at = Min(first_retry_at, at);
}

TimestampTz
dbopt_session_take_retry(void)
{
	TimestampTz at = first_retry_at;

	first_retry_at = DT_NOEND;
	return at;
}

void
dbopt_session_build_begin(uint64 declaration)
{
	declaration_built = declaration;
}

void
dbopt_session_build_end(void)
{
	declaration_built = 0;
	QueryCancelPending = false;
}

bool
dbopt_session_builds(uint64 declaration)
{
	return declaration != 0 && declaration == declaration_built;
}

bool
dbopt_session_dismissed(void)
{
	bool		dismissed;

	if (dbopt_my_session == NULL)
		return false;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	dismissed = dbopt_my_session->dismissed;
	LWLockRelease(dbopt_shared->lock);
	return dismissed;
}

void
dbopt_session_part(void)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	dbopt_my_session->parted = true;
	LWLockRelease(dbopt_shared->lock);
	ConditionVariableBroadcast(&dbopt_shared->worker_gone);
}

void
dbopt_session_give(DbOptSession *session, const DbOptJob *job,
				   TimestampTz now)
{
	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));

	session->state = DBOPT_SESSION_BUSY;
	session->since = now;
	session->job = *job;
	pg_atomic_write_u32(&session->more, 0);
	pg_atomic_write_u32(&session->yield, 0);
	pg_atomic_write_u64(&session->looked_at, 0);
}
