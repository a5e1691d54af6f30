/*
 * circuit.c
 *		Circuit breakers in shared memory.
 *
 * Run by pool sessions around every chunk, and by the SQL functions that
 * change a breaker.  A breaker is touched under its slot's spinlock only, so
 * that asking one costs no lock wait.  What a call changed is looked at after
 * the spinlock is released: a change of state is logged, and wakes the
 * database's scheduler, because work has become possible or impossible.
 */
#include "postgres.h"

#include "state/circuit.h"
#include "state/log_line.h"
#include "state/news.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

/* What a call did to a breaker, copied under the spinlock. */
typedef struct DbOptTransition
{
	TimestampTz now;
	DbOptBreaker before;
	DbOptBreaker after;
} DbOptTransition;

static DbOptHandlerState *
slot_pointer(int slot)
{
	return slot < 0 || dbopt_shared == NULL ? NULL : dbopt_handler_slot(slot);
}

/* Logs the state that a breaker has changed to. */
static void
log_state(int slot, const char *name, const DbOptBreaker *breaker)
{
	DbOptLogLine line = {.slot = slot,.handler = name};

	switch (breaker->state)
	{
		case DBOPT_BREAKER_CLOSED:
			line.kind = DBOPT_LOG_BREAKER_CLOSED;
			line.message = psprintf("circuit breaker \"%s\" closed", name);
			break;
		case DBOPT_BREAKER_HALF_OPEN:
			line.kind = DBOPT_LOG_BREAKER_TRIAL;
			line.message =
				psprintf("circuit breaker \"%s\" half-open, on trial", name);
			break;
		case DBOPT_BREAKER_OPEN:
			line.kind = DBOPT_LOG_BREAKER_OPENED;
			if (breaker->tripped_by_hand)
				line.message = psprintf("circuit breaker \"%s\" opened by hand, until it is reset",
										name);
			else
			{
				line.message = psprintf("circuit breaker \"%s\" opened until %s",
										name,
										timestamptz_to_str(breaker->retry_at));
				line.delay = breaker->retry_at - GetCurrentTimestamp();
			}
			break;
	}
	dbopt_log_line(&line);
}

/*
 * After a call: tells log and scheduler what it changed.  A trial that was
 * given back without a change of state also makes room for another one.
 */
static void
follow_up(DbOptHandlerState *state, const DbOptTransition *transition)
{
	bool		changed = dbopt_breaker_changed(&transition->before,
												&transition->after);
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
		log_state((int) (state - dbopt_handler_slot(0)), NameStr(name), &transition->after);
	dbopt_scheduler_wake(dboid);
}

static void
lock_breaker(DbOptHandlerState *state, DbOptTransition *transition)
{
	transition->now = GetCurrentTimestamp();
	SpinLockAcquire(&state->mutex);
	transition->before = state->breaker;
}

static void
unlock_breaker(DbOptHandlerState *state, DbOptTransition *transition)
{
	transition->after = state->breaker;
	if (dbopt_breaker_changed(&transition->before, &transition->after))
		dbopt_breaker_log_add(&state->breaker_log, &transition->before,
							  &transition->after, transition->now);
	SpinLockRelease(&state->mutex);
	follow_up(state, transition);
}

DbOptAdmission
dbopt_circuit_admit(int slot, const DbOptBreakerConfig *config, int wanted)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptAdmission admission = {.granted = wanted};
	DbOptTransition transition;

	if (state == NULL)
		return admission;

	lock_breaker(state, &transition);
	state->breaker_config = *config;
	admission = dbopt_breaker_admit(&state->breaker, config, wanted, transition.now);
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

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_success(&state->breaker, admission, count, transition.now);
	unlock_breaker(state, &transition);
}

/* One event of an admission failed; only a retryable error counts. */
void
dbopt_circuit_failure(int slot, const DbOptAdmission *admission,
					  bool retryable)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_failure(&state->breaker, &state->breaker_config, admission,
						  retryable, transition.now);
	unlock_breaker(state, &transition);
}

/* "unreported" events of an admission will never be reported. */
void
dbopt_circuit_abandon(int slot, const DbOptAdmission *admission,
					  int unreported)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptTransition transition;

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_abandon(&state->breaker, &state->breaker_config, admission,
						  unreported, transition.now);
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

	if (state == NULL)
		return;

	lock_breaker(state, &transition);
	dbopt_breaker_trip(&state->breaker, transition.now);
	unlock_breaker(state, &transition);
}

/*
 * While a HALF_OPEN breaker's trials are all out, the answer is PG_INT64_MAX,
 * too: the first report changes its state, and a trial that is given back
 * makes room for another one; both wake the scheduler.
 */
TimestampTz
dbopt_circuit_blocked_until(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	DbOptBreaker breaker;
	int			trials;

	if (state == NULL)
		return 0;

	SpinLockAcquire(&state->mutex);
	breaker = state->breaker;
	trials = state->breaker_config.half_open_trials;
	SpinLockRelease(&state->mutex);

	if (breaker.state == DBOPT_BREAKER_HALF_OPEN)
		return breaker.trials < Max(trials, 1) ? 0 : PG_INT64_MAX;
	return dbopt_breaker_blocks(&breaker, GetCurrentTimestamp()) ?
		breaker.retry_at : 0;
}
