/*
 * breaker.c
 *		The circuit breaker's transitions.
 *
 * Called with the breaker locked, by whoever hands out, runs or gives up
 * events.  change_state() makes every transition; it ends the epoch, so that
 * no report of an admission made before can touch the new state.  Hence the
 * invariant: only reports of the present epoch are applied, trials are out
 * only in HALF_OPEN, and those out never exceed those granted in it.
 */
#include "c.h"

#include "common/int.h"

#include "policy/breaker.h"

static const char *const state_names[] = {
	[DBOPT_BREAKER_CLOSED] = "CLOSED",
	[DBOPT_BREAKER_OPEN] = "OPEN",
	[DBOPT_BREAKER_HALF_OPEN] = "HALF_OPEN"
};

const char *
dbopt_breaker_state_name(DbOptBreakerState state)
{
	Assert((size_t) state < lengthof(state_names));

	return state_names[state];
}

static void
change_state(DbOptBreaker *breaker, DbOptBreakerState state)
{
	Assert(state != DBOPT_BREAKER_HALF_OPEN ||
		   (breaker->state == DBOPT_BREAKER_OPEN &&
			!breaker->tripped_by_hand));

	breaker->state = state;
	breaker->epoch++;
	breaker->tripped_by_hand = false;
	breaker->trials = 0;
	breaker->retry_at = 0;
}

static void
close_breaker(DbOptBreaker *breaker)
{
	change_state(breaker, DBOPT_BREAKER_CLOSED);
	breaker->consecutive_failures = 0;
	breaker->opened_at = 0;
}

/*
 * Starts the wait of reset_timeout, which may be too long to express.
 */
static void
start_wait(DbOptBreaker *breaker, const DbOptBreakerConfig *config, int64 now)
{
	breaker->opened_at = now;
	if (pg_add_s64_overflow(now, Max(config->reset_timeout, 0),
							&breaker->retry_at))
		breaker->retry_at = PG_INT64_MAX;
}

static void
open_breaker(DbOptBreaker *breaker, const DbOptBreakerConfig *config,
			 int64 now)
{
	change_state(breaker, DBOPT_BREAKER_OPEN);
	start_wait(breaker, config, now);
	breaker->tripped++;
}

/*
 * Adds failures that count to those in a row.
 */
static void
count_failures(DbOptBreaker *breaker, int count)
{
	if (pg_add_s32_overflow(breaker->consecutive_failures, count,
							&breaker->consecutive_failures))
		breaker->consecutive_failures = PG_INT32_MAX;
}

/*
 * OPEN by itself, and its time seems to lie in the future?
 */
static bool
clock_set_back(const DbOptBreaker *breaker, int64 now)
{
	return breaker->state == DBOPT_BREAKER_OPEN &&
		!breaker->tripped_by_hand && now < breaker->opened_at;
}

static bool
trials_due(const DbOptBreaker *breaker, int64 now)
{
	return breaker->state == DBOPT_BREAKER_OPEN &&
		!breaker->tripped_by_hand && now >= breaker->retry_at;
}

/*
 * Is this report of a trial the one that decides?
 */
static bool
is_current_trial(const DbOptBreaker *breaker, const DbOptAdmission *admission)
{
	return breaker->state == DBOPT_BREAKER_HALF_OPEN &&
		admission->trial && admission->epoch == breaker->epoch;
}

static bool
is_current_regular(const DbOptBreaker *breaker,
				   const DbOptAdmission *admission)
{
	return breaker->state == DBOPT_BREAKER_CLOSED &&
		!admission->trial && admission->epoch == breaker->epoch;
}

DbOptAdmission
dbopt_breaker_admit(DbOptBreaker *breaker, const DbOptBreakerConfig *config,
					int wanted, int64 now)
{
	DbOptAdmission admission = {0};

	if (wanted > 0)
	{
		if (clock_set_back(breaker, now))
			start_wait(breaker, config, now);
		if (trials_due(breaker, now))
			change_state(breaker, DBOPT_BREAKER_HALF_OPEN);

		if (breaker->state == DBOPT_BREAKER_CLOSED)
			admission.granted = wanted;
		else if (breaker->state == DBOPT_BREAKER_HALF_OPEN)
		{
			int			limit = Max(config->half_open_trials, 1);

			/* the limit may have been lowered below what is out */
			admission.granted = Max(Min(wanted, limit - breaker->trials), 0);
			admission.trial = admission.granted > 0;
			breaker->trials += admission.granted;
		}
		if (admission.granted == 0)
			breaker->rejected++;
	}
	admission.epoch = breaker->epoch;
	return admission;
}

/*
 * Needs no time, as a closed breaker has none; takes it as all reports do.
 */
void
dbopt_breaker_success(DbOptBreaker *breaker, const DbOptAdmission *admission,
					  int count, int64 now pg_attribute_unused())
{
	if (count <= 0)
		return;

	breaker->successes += count;
	if (is_current_trial(breaker, admission))
		close_breaker(breaker);
	else if (is_current_regular(breaker, admission))
		breaker->consecutive_failures = 0;
}

void
dbopt_breaker_failure(DbOptBreaker *breaker, const DbOptBreakerConfig *config,
					  const DbOptAdmission *admission, bool counts, int64 now)
{
	breaker->failures++;
	if (is_current_trial(breaker, admission))
	{
		if (counts)
		{
			count_failures(breaker, 1);
			open_breaker(breaker, config, now);
		}
		else
			close_breaker(breaker);
	}
	else if (is_current_regular(breaker, admission) && counts)
	{
		count_failures(breaker, 1);
		if (breaker->consecutive_failures >= config->failure_threshold)
			open_breaker(breaker, config, now);
	}
}

void
dbopt_breaker_abandon(DbOptBreaker *breaker, const DbOptBreakerConfig *config,
					  const DbOptAdmission *admission, int unreported,
					  int64 now)
{
	if (unreported <= 0 || !admission->trial)
		return;

	breaker->failures += unreported;
	if (is_current_trial(breaker, admission))
	{
		count_failures(breaker, unreported);
		open_breaker(breaker, config, now);
	}
}

void
dbopt_breaker_release(DbOptBreaker *breaker, const DbOptAdmission *admission,
					  int unused)
{
	if (unused > 0 && is_current_trial(breaker, admission))
		breaker->trials = Max(breaker->trials - unused, 0);
}

/*
 * Counts as an opening only where it opens what was not open.
 */
void
dbopt_breaker_trip(DbOptBreaker *breaker, int64 now)
{
	if (breaker->state != DBOPT_BREAKER_OPEN)
	{
		change_state(breaker, DBOPT_BREAKER_OPEN);
		breaker->opened_at = now;
		breaker->tripped++;
	}
	breaker->tripped_by_hand = true;
	breaker->retry_at = PG_INT64_MAX;
}

/*
 * A reset of a closed breaker, too, ends the epoch: failures of events that
 * are running now belong to what is to be forgotten.
 */
void
dbopt_breaker_reset(DbOptBreaker *breaker)
{
	close_breaker(breaker);
}

bool
dbopt_breaker_blocks(const DbOptBreaker *breaker, int64 now)
{
	return breaker->state == DBOPT_BREAKER_OPEN &&
		!trials_due(breaker, now) && !clock_set_back(breaker, now);
}
