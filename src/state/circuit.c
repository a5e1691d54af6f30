/*
 * circuit.c
 *		The shared state of handlers by name: slots and circuit breakers.
 *
 * Run by pool sessions around every chunk, by schedulers, and by the SQL
 * functions that report or change a breaker.  Slots are found and given out
 * under dbopt_shared->lock; a breaker is touched under its slot's spinlock
 * only, so that asking one costs no lock wait.  What a call changed is looked
 * at after the spinlock is released: a change of state is logged, and wakes
 * the database's scheduler, because work has become possible or impossible.
 */
#include "postgres.h"

#include "state/circuit.h"
#include "state/news.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* What a call did to a breaker, copied under the spinlock. */
typedef struct DbOptTransition
{
	DbOptBreaker before;
	DbOptBreaker after;
} DbOptTransition;

static DbOptHandlerState *
slot_pointer(int slot)
{
	return slot < 0 || dbopt_shared == NULL ? NULL : dbopt_handler_slot(slot);
}

/* The number of a slot, or -1; InvalidOid looks for a free one. */
static int
find_slot(Oid dboid, int32 handler_id)
{
	Assert(LWLockHeldByMe(dbopt_shared->lock));

	for (int number = 0; number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		if (state->dboid == dboid &&
			(!OidIsValid(dboid) || state->handler_id == handler_id))
			return number;
	}
	return -1;
}

/* Everything about a slot but its identity, as for a new handler. */
static void
clear_slot(DbOptHandlerState *state)
{
	TimestampTz now = GetCurrentTimestamp();

	pg_atomic_write_u64(&state->next_retry_at, PG_INT64_MAX);
	pg_atomic_write_u32(&state->in_flight, 0);

	SpinLockAcquire(&state->mutex);
	memset(&state->breaker_config, 0, sizeof(state->breaker_config));
	memset(&state->breaker, 0, sizeof(state->breaker));
	memset(&state->counters, 0, sizeof(state->counters));
	state->failure_rate = 0;
	state->mean_time = 0;
	state->last_error_code[0] = '\0';
	state->last_error[0] = '\0';
	state->last_error_at = 0;
	state->last_success_at = 0;
	state->stats_since = now;
	SpinLockRelease(&state->mutex);
}

static void
warn_full(const char *name)
{
	static bool warned = false;

	if (warned)
		return;
	warned = true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("handler \"%s\" runs without a circuit breaker and without statistics",
					name),
			 errdetail("All %d slots are in use.", dbopt_shared->max_handlers),
			 errhint("Consider increasing the configuration parameter \"dbopt.max_handlers\".")));
}

/*
 * The slot of a handler, which is given one if it has none; its name is
 * brought up to date.  -1: all are taken, or the library is not preloaded.
 */
int
dbopt_handler_attach(Oid dboid, int32 handler_id, const char *name)
{
	int			number;

	if (dbopt_shared == NULL)
		return -1;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	number = find_slot(dboid, handler_id);
	if (number < 0)
	{
		number = find_slot(InvalidOid, 0);
		if (number >= 0)
		{
			DbOptHandlerState *state = dbopt_handler_slot(number);

			clear_slot(state);
			state->dboid = dboid;
			state->handler_id = handler_id;
			state->generation++;
		}
	}
	if (number >= 0)
		namestrcpy(&dbopt_handler_slot(number)->name, name);
	LWLockRelease(dbopt_shared->lock);

	if (number < 0)
		warn_full(name);
	return number;
}

/* The slot of a handler, or -1. */
int
dbopt_handler_find(Oid dboid, int32 handler_id)
{
	int			number;

	if (dbopt_shared == NULL)
		return -1;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	number = find_slot(dboid, handler_id);
	LWLockRelease(dbopt_shared->lock);
	return number;
}

/* Gives a slot back: the handler is no longer registered. */
void
dbopt_handler_release(Oid dboid, int32 handler_id)
{
	int			number;

	if (dbopt_shared == NULL)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	number = find_slot(dboid, handler_id);
	if (number >= 0)
		dbopt_handler_slot(number)->dboid = InvalidOid;
	LWLockRelease(dbopt_shared->lock);
}

/* Gives all slots of a database back: it, or its extension, is dropped. */
void
dbopt_handlers_release(Oid dboid)
{
	if (dbopt_shared == NULL)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int number = 0; number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		if (state->dboid == dboid)
			state->dboid = InvalidOid;
	}
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_handler_copy(Oid dboid, int32 handler_id, DbOptHandlerState *copy)
{
	int			number;

	if (dbopt_shared == NULL)
		return false;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	number = find_slot(dboid, handler_id);
	if (number >= 0)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		SpinLockAcquire(&state->mutex);
		*copy = *state;
		SpinLockRelease(&state->mutex);
	}
	LWLockRelease(dbopt_shared->lock);
	return number >= 0;
}

/* Logs the state that a breaker has changed to. */
static void
log_state(const char *name, const DbOptBreaker *breaker)
{
	switch (breaker->state)
	{
		case DBOPT_BREAKER_CLOSED:
			ereport(LOG,
					(errmsg("circuit breaker \"%s\" closed", name)));
			break;
		case DBOPT_BREAKER_HALF_OPEN:
			ereport(LOG,
					(errmsg("circuit breaker \"%s\" half-open, on trial",
							name)));
			break;
		case DBOPT_BREAKER_OPEN:
			if (breaker->tripped_by_hand)
				ereport(LOG,
						(errmsg("circuit breaker \"%s\" opened by hand, until it is reset",
								name)));
			else
				ereport(LOG,
						(errmsg("circuit breaker \"%s\" opened until %s",
								name, timestamptz_to_str(breaker->retry_at))));
			break;
	}
}

/*
 * After a call: tells log and scheduler what it changed.  A trial that was
 * given back without a change of state also makes room for another one.
 */
static void
follow_up(DbOptHandlerState *state, const DbOptTransition *transition)
{
	bool		changed = transition->before.state != transition->after.state ||
	transition->before.tripped_by_hand != transition->after.tripped_by_hand;
	Oid			dboid;
	NameData	name;

	if (!changed && transition->after.trials >= transition->before.trials)
		return;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	dboid = state->dboid;
	name = state->name;
	LWLockRelease(dbopt_shared->lock);

	if (!OidIsValid(dboid))
		return;
	if (changed)
		log_state(NameStr(name), &transition->after);
	dbopt_scheduler_wake(dboid);
}

static void
lock_breaker(DbOptHandlerState *state, DbOptTransition *transition)
{
	SpinLockAcquire(&state->mutex);
	transition->before = state->breaker;
}

static void
unlock_breaker(DbOptHandlerState *state, DbOptTransition *transition)
{
	transition->after = state->breaker;
	SpinLockRelease(&state->mutex);
	follow_up(state, transition);
}

DbOptAdmission
dbopt_circuit_admit(int slot, const DbOptBreakerConfig *config, int wanted)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptAdmission admission = {.granted = wanted};
	DbOptTransition transition;
	TimestampTz now;

	if (state == NULL)
		return admission;

	now = GetCurrentTimestamp();
	lock_breaker(state, &transition);
	state->breaker_config = *config;
	admission = dbopt_breaker_admit(&state->breaker, config, wanted, now);
	state->counters.rejected +=
		state->breaker.rejected - transition.before.rejected;
	unlock_breaker(state, &transition);
	return admission;
}

/* "count" events of an admission succeeded. */
void
dbopt_circuit_success(int slot, const DbOptAdmission *admission, int count)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;
	TimestampTz now;

	if (state == NULL)
		return;

	now = GetCurrentTimestamp();
	lock_breaker(state, &transition);
	dbopt_breaker_success(&state->breaker, admission, count, now);
	unlock_breaker(state, &transition);
}

/* One event of an admission failed; only a retryable error counts. */
void
dbopt_circuit_failure(int slot, const DbOptAdmission *admission,
					  bool retryable)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;
	TimestampTz now;

	if (state == NULL)
		return;

	now = GetCurrentTimestamp();
	lock_breaker(state, &transition);
	dbopt_breaker_failure(&state->breaker, &state->breaker_config, admission,
						  retryable, now);
	unlock_breaker(state, &transition);
}

/* "unreported" events of an admission will never be reported. */
void
dbopt_circuit_abandon(int slot, const DbOptAdmission *admission,
					  int unreported)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;
	TimestampTz now;

	if (state == NULL)
		return;

	now = GetCurrentTimestamp();
	lock_breaker(state, &transition);
	dbopt_breaker_abandon(&state->breaker, &state->breaker_config, admission,
						  unreported, now);
	unlock_breaker(state, &transition);
}

/* "unused" events of an admission were not started. */
void
dbopt_circuit_release(int slot, const DbOptAdmission *admission, int unused)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_release(&state->breaker, admission, unused);
	unlock_breaker(state, &transition);
}

void
dbopt_circuit_reset(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_reset(&state->breaker);
	unlock_breaker(state, &transition);
}

void
dbopt_circuit_trip(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;
	TimestampTz now;

	if (state == NULL)
		return;

	now = GetCurrentTimestamp();
	lock_breaker(state, &transition);
	dbopt_breaker_trip(&state->breaker, now);
	unlock_breaker(state, &transition);
}

/*
 * While a HALF_OPEN breaker's trials are all out, the answer is PG_INT64_MAX,
 * too: the first report changes its state, which wakes the scheduler.
 */
TimestampTz
dbopt_circuit_blocked_until(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptBreaker breaker;
	TimestampTz now;

	if (state == NULL)
		return 0;

	SpinLockAcquire(&state->mutex);
	breaker = state->breaker;
	SpinLockRelease(&state->mutex);

	now = GetCurrentTimestamp();
	if (!dbopt_breaker_blocks(&breaker, now))
		return 0;
	return breaker.state == DBOPT_BREAKER_OPEN ? breaker.retry_at :
		PG_INT64_MAX;
}

void
dbopt_handler_retry_at(int slot, TimestampTz at)
{
	DbOptHandlerState *state = slot_pointer(slot);
	uint64		known;
	Oid			dboid;

	if (state == NULL)
		return;

	known = pg_atomic_read_u64(&state->next_retry_at);
	do
	{
		if ((TimestampTz) known <= at)
			return;
	} while (!pg_atomic_compare_exchange_u64(&state->next_retry_at, &known,
											 (uint64) at));

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	dboid = state->dboid;
	LWLockRelease(dbopt_shared->lock);
	if (OidIsValid(dboid))
		dbopt_scheduler_wake(dboid);
}
