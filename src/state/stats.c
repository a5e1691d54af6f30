/*
 * stats.c
 *		Counting without a query.
 *
 * Run by pool sessions: a chunk counts in a DbOptTally of its own and adds it
 * under its handler's spinlock once, and to the history of its database.
 * Readers copy the slot under the same spinlock (dbopt_handler_copy).
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "state/history.h"
#include "state/stats.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

/* What one attempt weighs in the recent mean time and failure rate. */
#define ATTEMPT_WEIGHT	0.05

static DbOptHandlerState *
slot_pointer(int slot)
{
	return slot < 0 || dbopt_shared == NULL ? NULL : dbopt_handler_slot(slot);
}

/* ---- a chunk's own sum ---- */

void
dbopt_tally_time(DbOptTally *tally, int64 microseconds)
{
	dbopt_tally_times(tally, microseconds, 1);
}

/* Each of the events is taken to have had the same share of the time. */
void
dbopt_tally_times(DbOptTally *tally, int64 microseconds, int events)
{
	DbOptCounters *counters = &tally->counters;
	int64		share;

	if (events <= 0)
		return;
	microseconds = Max(microseconds, 0);
	share = microseconds / events;
	counters->total_time += microseconds;
	counters->max_time = Max(counters->max_time, share);
	counters->times.buckets[dbopt_histogram_bucket(share)] += events;
}

/* The message is cut at a character's boundary. */
void
dbopt_tally_error(DbOptTally *tally, const char *sqlstate,
				  const char *message)
{
	int			length = message == NULL ? 0 :
	pg_mbcliplen(message, strlen(message), sizeof(tally->error) - 1);

	strlcpy(tally->error_code, sqlstate, sizeof(tally->error_code));
	if (length > 0)
		memcpy(tally->error, message, length);
	tally->error[length] = '\0';
}

/* ---- the handler's slot ---- */

static void
add_counters(DbOptCounters *sum, const DbOptCounters *part)
{
	sum->attempts += part->attempts;
	sum->successes += part->successes;
	sum->failures += part->failures;
	sum->retries += part->retries;
	sum->successes_after_retry += part->successes_after_retry;
	sum->dead_letters += part->dead_letters;
	sum->total_time += part->total_time;
	sum->max_time = Max(sum->max_time, part->max_time);
	for (int bucket = 0; bucket < DBOPT_HISTOGRAM_BUCKETS; bucket++)
		sum->times.buckets[bucket] += part->times.buckets[bucket];
}

/* Moves the recent means; "weight" is that of all the attempts together. */
static void
move_means(DbOptHandlerState *state, const DbOptCounters *part, double weight)
{
	double		attempts = (double) part->attempts;
	double		time = (double) part->total_time / attempts;
	double		failed = (double) part->failures / attempts;

	/* The first time counts fully, and a known one is never 0. */
	if (state->mean_time > 0)
		time = state->mean_time + weight * (time - state->mean_time);
	state->mean_time = Max(time, 0.001);
	state->failure_rate += weight * (Min(failed, 1) - state->failure_rate);
}

void
dbopt_stats_add(int slot, const DbOptTally *tally)
{
	DbOptHandlerState *state = slot_pointer(slot);
	const DbOptCounters *part = &tally->counters;
	double		weight;
	TimestampTz now;

	if (state == NULL)
		return;

	weight = 1 - pow(1 - ATTEMPT_WEIGHT, (double) part->attempts);
	now = GetCurrentTimestamp();

	SpinLockAcquire(&state->mutex);
	add_counters(&state->counters, part);
	dbopt_handler_minutes_add(&state->minutes, now, part->successes,
							  part->failures);
	if (part->attempts > 0)
		move_means(state, part, weight);
	if (part->successes > 0)
		state->last_success_at = now;
	if (tally->error_code[0] != '\0')
	{
		memcpy(state->last_error_code, tally->error_code,
			   sizeof(state->last_error_code));
		memcpy(state->last_error, tally->error, sizeof(state->last_error));
		state->last_error_at = now;
	}
	SpinLockRelease(&state->mutex);
	dbopt_history_count(part, now);
}

double
dbopt_stats_mean_time(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	double		mean_time;

	if (state == NULL)
		return 0;
	SpinLockAcquire(&state->mutex);
	mean_time = state->mean_time;
	SpinLockRelease(&state->mutex);
	return mean_time;
}

double
dbopt_stats_failure_rate(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	double		failure_rate;

	if (state == NULL)
		return 0;
	SpinLockAcquire(&state->mutex);
	failure_rate = state->failure_rate;
	SpinLockRelease(&state->mutex);
	return failure_rate;
}

/* "delta" events more (or less, when negative) are being handled. */
void
dbopt_stats_in_flight(int slot, int delta)
{
	DbOptHandlerState *state = slot_pointer(slot);

	if (state != NULL)
		pg_atomic_fetch_add_u32(&state->in_flight, delta);
}

/*
 * Counts from zero again.  The breaker keeps its state and counters, and what
 * the engine goes by (recent mean time and failure rate) stays.
 */
void
dbopt_stats_reset(int slot)
{
	DbOptHandlerState *state = slot_pointer(slot);
	TimestampTz now;

	if (state == NULL)
		return;

	now = GetCurrentTimestamp();
	SpinLockAcquire(&state->mutex);
	memset(&state->counters, 0, sizeof(state->counters));
	state->last_error_code[0] = '\0';
	state->last_error[0] = '\0';
	state->last_error_at = 0;
	state->last_success_at = 0;
	state->stats_since = now;
	SpinLockRelease(&state->mutex);
}
