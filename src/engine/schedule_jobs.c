/*
 * schedule_jobs.c
 *		A job's life: what its beginning and its end mean for lanes and tracks.
 *
 * Run by the scheduler alone, in its own memory, but for the handlers' slots
 * in shared memory, whose atomics and spinlock circuit.h hides.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/index_schedule.h"
#include "engine/locked.h"
#include "engine/probation.h"
#include "engine/schedule.h"
#include "miscadmin.h"
#include "policy/backoff.h"
#include "state/circuit.h"
#include "state/departure.h"

/*
 * A retry that somebody has locked is looked at again after this long: another
 * session of ours settles it itself, and nobody tells when a stranger's
 * transaction ends.
 */
#define LOOK_BEHIND_US	USECS_PER_SEC

/* For jobs that fail outside the handlers, and sessions that die. */
static const DbOptBackoff failure_backoff = {
	.base_delay = 100000,
	.max_delay = 60000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

TimestampTz
dbopt_lane_retry_at(const DbOptLane *lane)
{
	if (lane->slot < 0)
		return lane->retry_at;
	return (TimestampTz)
		pg_atomic_read_u64(&dbopt_handler_slot(lane->slot)->next_retry_at);
}

/*
 * When there are retries to be run; DBOPT_NEVER: none is known.
 */
TimestampTz
dbopt_lane_retries_due_at(const DbOptLane *lane)
{
	TimestampTz at = Min(dbopt_lane_retry_at(lane), lane->look_behind_at);

	return at == DBOPT_NEVER ? at : Max(at, lane->retry_not_before);
}

/*
 * A retry is due then, or an earlier one is known.
 */
void
dbopt_lane_set_retry(DbOptLane *lane, TimestampTz at)
{
	if (lane->slot < 0)
		lane->retry_at = Min(lane->retry_at, at);
	else
		dbopt_handler_retry_at(lane->slot, at);
}

/*
 * A session will look for retries due from a time on, 0: for all of them, and
 * then say when the next is due.  An earlier one may have become known since
 * that time was read: it is for the next job.
 */
static void
retries_assigned(DbOptLane *lane, TimestampTz since)
{
	DbOptHandlerState *state;
	TimestampTz known;

	lane->retry_behind = false;
	if (since == 0)
		lane->look_behind_at = DBOPT_NEVER;
	lane->retry_at = DBOPT_NEVER;
	if (lane->slot < 0)
		return;
	state = dbopt_handler_slot(lane->slot);
	known = (TimestampTz) pg_atomic_exchange_u64(&state->next_retry_at,
												 DBOPT_NEVER);
	if (known < since)
		dbopt_lane_set_retry(lane, known);
}

/*
 * A session is about to get this job.  To be said before it does, since the
 * session sets the time of the handler's next retry.
 */
void
dbopt_schedule_assigned(const DbOptJob *job)
{
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);
	DbOptTrack *track = dbopt_track_find(job->cursor_id);

	if (job->kind == DBOPT_JOB_INDEX)
		dbopt_index_schedule_assigned(job);
	if (job->kind == DBOPT_JOB_LOG_INDEX)
		dbopt_builds_assigned();
	if (lane != NULL)
	{
		lane->running++;
		if (job->kind == DBOPT_JOB_RETRY)
			retries_assigned(lane, job->since);
	}
	if (job->kind == DBOPT_JOB_SUSPECTS)
		dbopt_probation_assigned();
	if (track == NULL || job->kind == DBOPT_JOB_RETRY)
		return;
	if (job->kind == DBOPT_JOB_CHUNK)
		dbopt_track_remove_chunk(track, job->seq);
	else if (job->kind == DBOPT_JOB_DELIVER)
		track->wanted = false;
	dbopt_track_set_running(track, track->running + 1);
}

/*
 * When to try again what has failed: not before the time it gave, and later
 * with every failure.
 */
static TimestampTz
after_failure(int *failures, TimestampTz at, TimestampTz now)
{
	(*failures)++;
	return Max(at, now + dbopt_backoff_base(&failure_backoff, *failures));
}

/*
 * Only a failure waits for a time of its own.  What the breaker rejected waits
 * for the breaker, which blocks the whole lane; when that has opened the way
 * by now, there is nothing to wait for.
 */
static void
retry_ended(DbOptLane *lane, const DbOptJobResult *result, TimestampTz now)
{
	lane->retry_not_before = 0;
	if (result->skipped)
		lane->look_behind_at = Min(lane->look_behind_at,
								   now + LOOK_BEHIND_US);
	if (result->outcome == DBOPT_JOB_FAILED)
		lane->retry_not_before = after_failure(&lane->retry_failures,
											   result->retry_at, now);
	else if (result->outcome != DBOPT_JOB_REJECTED)
		lane->retry_failures = 0;
	if (result->outcome != DBOPT_JOB_DONE)
	{
		lane->retry_behind = true;
		dbopt_lane_set_retry(lane, now);
	}
}

static void
delivery_ended(DbOptTrack *track, const DbOptJob *job,
			   const DbOptJobResult *result, TimestampTz now)
{
	dbopt_track_set_running(track, track->running - 1);
	dbopt_track_put_off(track, 0);
	if (result->outcome == DBOPT_JOB_FAILED)
		dbopt_track_put_off(track, after_failure(&track->failures,
												 result->retry_at, now));
	else if (result->outcome != DBOPT_JOB_REJECTED)
		track->failures = 0;
	if (result->leftover && job->kind == DBOPT_JOB_CHUNK)
		dbopt_track_add_chunk(track, job->seq, now);
	else if (result->leftover)
		dbopt_track_doubt(track);
	if (result->outcome != DBOPT_JOB_DONE && job->kind == DBOPT_JOB_DELIVER)
		dbopt_track_want(track, track->last_news, now);
}

/*
 * The handler was removed while sessions were at work for it: the last of them
 * leaves its slot to others.
 */
static void
handler_left(int32 handler_id)
{
	if (handler_id > 0 && !dbopt_crew_works_for(handler_id))
		dbopt_handler_release(MyDatabaseId, handler_id);
}

void
dbopt_schedule_finished(const DbOptJob *job, const DbOptJobResult *result,
						TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);
	DbOptTrack *track = dbopt_track_find(job->cursor_id);

	if (job->kind == DBOPT_JOB_INDEX)
		dbopt_index_schedule_ended(job, result, now);
	if (job->kind == DBOPT_JOB_LOG_INDEX)
		dbopt_builds_finished(job, result, now);
	if (lane != NULL)
		lane->running--;
	else
		handler_left(job->handler_id);
	if (lane != NULL && result->first_retry_at != 0)
		dbopt_lane_set_retry(lane, result->first_retry_at);
	if (lane != NULL && result->outcome == DBOPT_JOB_LOCKED)
		dbopt_locked_note(lane->source_id, 0, now);
	if (lane != NULL && result->outcome == DBOPT_JOB_HANDLER_LOCKED)
		dbopt_locked_note(lane->source_id, lane->handler_id, now);
	if (job->kind == DBOPT_JOB_SUSPECTS)
	{
		if (track != NULL)
			dbopt_track_set_running(track, track->running - 1);
		dbopt_probation_finished(job, result, now);
	}
	else if (job->kind == DBOPT_JOB_RETRY)
	{
		if (lane != NULL)
			retry_ended(lane, result, now);
	}
	else if (track != NULL)
		delivery_ended(track, job, result, now);
}

/*
 * The session has gone in the middle of this job.  Once is an accident; a job
 * that does it again is put off, unless its handler did it: that is counted
 * against its events.  Retries that it queued, and committed, may not have been
 * announced.
 */
void
dbopt_schedule_lost(const DbOptJob *job, TimestampTz now)
{
	DbOptJobResult result = {.outcome = DBOPT_JOB_FAILED,.leftover = true};
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);
	DbOptTrack *track = dbopt_track_find(job->cursor_id);
	bool		departed;

	dbopt_schedule_finished(job, &result, now);
	if (lane != NULL)
	{
		lane->retry_behind = true;
		dbopt_lane_set_retry(lane, now);
	}
	if (job->kind == DBOPT_JOB_SUSPECTS)
		return;
	departed = lane != NULL && dbopt_departure_is_recent(lane->slot);
	if (job->kind == DBOPT_JOB_RETRY)
	{
		if (lane != NULL && (departed || lane->retry_failures == 1))
			lane->retry_not_before = 0;
	}
	else if (track != NULL && (departed || track->failures == 1))
		dbopt_track_put_off(track, 0);
}

/*
 * Counts the sessions at work anew, after lanes and tracks were made or
 * dropped.
 */
void
dbopt_schedule_recount(void)
{
	DbOptLane  *lane;
	DbOptTrack *track;
	int			i;

	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
		lane->running = 0;
	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
		if (track->running > 0)
			dbopt_track_set_running(track, 0);
	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state != DBOPT_SESSION_BUSY)
			continue;
		lane = dbopt_lane_find(member->job.handler_id);
		track = dbopt_track_find(member->job.cursor_id);
		if (lane != NULL)
			lane->running++;
		if (track != NULL && member->job.kind != DBOPT_JOB_RETRY)
			dbopt_track_set_running(track, track->running + 1);
	}
}
