/*
 * schedule_jobs.c
 *		From lanes and tracks to jobs and back: what could be done now, and
 *		what a job's end means.
 *
 * Run by the scheduler alone, in its own memory, but for the handlers' slots
 * in shared memory, whose atomics and spinlock circuit.h hides.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/index_schedule.h"
#include "engine/probation.h"
#include "engine/schedule.h"
#include "policy/backoff.h"
#include "state/circuit.h"

/*
 * A session at work on a cursor finds new events by itself, between chunks.
 * Only when it has not looked for this long is another one sent.
 */
#define HELP_AFTER_US	1000

/* For jobs that fail outside the handlers, and sessions that die. */
static const DbOptBackoff failure_backoff = {
	.base_delay = 100000,
	.max_delay = 60000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

/* ---- what could be done now ---------------------------------------------- */

TimestampTz
dbopt_lane_retry_at(const DbOptLane *lane)
{
	if (lane->slot < 0)
		return lane->retry_at;
	return (TimestampTz)
		pg_atomic_read_u64(&dbopt_handler_slot(lane->slot)->next_retry_at);
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

DbOptCandidate *
dbopt_candidates_add(DbOptCandidates *candidates, const DbOptJob *job,
					 Oid role, int priority, TimestampTz since)
{
	DbOptCandidate *candidate;

	if (candidates->count == candidates->size)
	{
		candidates->size *= 2;
		candidates->items = repalloc(candidates->items, candidates->size *
									 sizeof(DbOptCandidate));
	}
	candidate = &candidates->items[candidates->count++];
	candidate->job = *job;
	candidate->role = role;
	candidate->priority = priority;
	candidate->since = since;
	candidate->helper = false;
	candidate->due = false;
	return candidate;
}

static DbOptCandidate *
add_candidate(DbOptCandidates *candidates, const DbOptLane *lane,
			  const DbOptJob *job, TimestampTz since)
{
	return dbopt_candidates_add(candidates, job, lane->role, lane->priority,
								since);
}

/*
 * Something of this lane is due: a candidate, unless the lane's limit leaves
 * it out.
 */
static void
add_due(DbOptCandidates *candidates, const DbOptLane *lane,
		const DbOptJob *job, TimestampTz since, bool helper)
{
	DbOptCandidate *candidate;

	candidates->due++;
	candidate = add_candidate(candidates, lane, job, since);
	candidate->due = true;
	candidate->helper = helper;
}

/*
 * Is it time to send a session to this wanted track, although others are at
 * work on it?  They may have seen all there is, and then it is not wanted.
 */
static bool
needs_session(DbOptTrack *track, DbOptCandidates *candidates, TimestampTz now)
{
	uint64		looked_at;

	if (track->running == 0)
		return true;
	looked_at = dbopt_crew_looked_at(track->cursor_id);
	if (looked_at >= track->last_news)
	{
		track->wanted = false;
		return false;
	}
	if (looked_at >= track->since_news)
	{
		track->since_news = track->last_news;
		track->since = now;
	}
	if (now - track->since >= HELP_AFTER_US)
		return true;
	candidates->due++;
	candidates->next = Min(candidates->next, track->since + HELP_AFTER_US);
	return false;
}

static void
collect_track(DbOptCandidates *candidates, const DbOptLane *lane,
			  DbOptTrack *track, TimestampTz now)
{
	DbOptJob	job = {0};
	dlist_iter	iter;

	if (track->not_before > now)
	{
		candidates->next = Min(candidates->next, track->not_before);
		return;
	}
	job.handler_id = lane->handler_id;
	job.cursor_id = track->cursor_id;
	job.kind = DBOPT_JOB_CHUNK;
	dlist_foreach(iter, &track->chunks)
	{
		job.seq = dlist_container(DbOptLeftover, node, iter.cur)->seq;
		add_due(candidates, lane, &job, track->since, false);
	}
	job.kind = DBOPT_JOB_DELIVER;
	job.seq = 0;
	if (track->wanted && needs_session(track, candidates, now))
		add_due(candidates, lane, &job, track->since,
				track->running > 0);
	if (!track->wanted && dlist_is_empty(&track->chunks))
	{
		dlist_delete(&track->in_lane);
		track->queued = false;
	}
}

static void
collect_retries(DbOptCandidates *candidates, const DbOptLane *lane,
				TimestampTz now)
{
	TimestampTz at = Max(dbopt_lane_retry_at(lane), lane->retry_not_before);
	DbOptJob	job = {.kind = DBOPT_JOB_RETRY,.handler_id = lane->handler_id};

	if (!lane->retry_behind)
		job.since = dbopt_lane_retry_at(lane);
	if (at <= now)
		add_due(candidates, lane, &job, at, false);
	else
		candidates->next = Min(candidates->next, at);
}

/*
 * Does the lane have anything to do, now or later?
 */
static bool
has_work(DbOptLane *lane)
{
	return lane->open && (!dlist_is_empty(&lane->tracks) ||
						  dbopt_lane_retry_at(lane) != DBOPT_NEVER);
}

/*
 * How many sessions more the lane may have.
 */
static int
lane_room(const DbOptLane *lane, int max)
{
	int			limit = lane->max_concurrency;

	if (limit <= 0 || limit > max)
		limit = max;
	return limit - lane->running - dbopt_crew_strangers(lane->handler_id);
}

/*
 * May another session have this job?  Candidates of one round may be too many
 * together.
 */
bool
dbopt_schedule_has_room(const DbOptJob *job, int max)
{
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);

	if (job->kind == DBOPT_JOB_INDEX)
		return !dbopt_index_schedule_running();
	return lane != NULL && lane_room(lane, max) > 0;
}

static void
collect_lane(DbOptCandidates *candidates, DbOptLane *lane, int max,
			 TimestampTz now)
{
	int			first = candidates->count;
	TimestampTz blocked_until = dbopt_circuit_blocked_until(lane->slot);
	dlist_mutable_iter iter;

	if (blocked_until != 0)
	{
		candidates->next = Min(candidates->next, blocked_until);
		return;
	}
	collect_retries(candidates, lane, now);
	dlist_foreach_modify(iter, &lane->tracks)
		collect_track(candidates, lane,
					  dlist_container(DbOptTrack, in_lane, iter.cur), now);
	dbopt_candidates_limit(candidates, first, lane_room(lane, max), lane, now);
}

/*
 * Sessions that see more than they can take: one more for each such job.
 */
static void
collect_helpers(DbOptCandidates *candidates, int max, TimestampTz now)
{
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		DbOptLane  *lane;

		if (!dbopt_crew_wants_help(member) ||
			member->job.kind == DBOPT_JOB_CHUNK)
			continue;
		lane = dbopt_lane_find(member->job.handler_id);
		if (lane != NULL && lane->open && lane_room(lane, max) > 0 &&
			dbopt_circuit_blocked_until(lane->slot) == 0)
			add_candidate(candidates, lane, &member->job,
						  now)->helper = true;
	}
}

/*
 * All that could be done now, most urgent first, in the round's context.
 * "max" is the number of sessions that the database may have.
 */
DbOptCandidates *
dbopt_schedule_collect(int max, TimestampTz now)
{
	DbOptCandidates *candidates = palloc0(sizeof(DbOptCandidates));
	DbOptLane  *lane;

	candidates->size = 64;
	candidates->items = palloc(candidates->size * sizeof(DbOptCandidate));
	candidates->next = DBOPT_NEVER;
	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
	{
		if (has_work(lane))
			collect_lane(candidates, lane, max, now);
	}
	collect_helpers(candidates, max, now);
	dbopt_index_schedule_collect(candidates, now);
	dbopt_candidates_sort(candidates, 0);
	return candidates;
}

/* ---- a job's life -------------------------------------------------------- */

static void
remove_chunk(DbOptTrack *track, int64 seq)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &track->chunks)
	{
		DbOptLeftover *leftover = dlist_container(DbOptLeftover, node,
												  iter.cur);

		if (leftover->seq == seq)
		{
			dlist_delete(iter.cur);
			pfree(leftover);
			return;
		}
	}
}

/*
 * A session will look for retries due from a time on, and then say when the
 * next is due.  An earlier one may have become known since that time was read:
 * it is for the next job.
 */
static void
retries_assigned(DbOptLane *lane, TimestampTz since)
{
	DbOptHandlerState *state;
	TimestampTz known;

	lane->retry_behind = false;
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
		dbopt_index_schedule_assigned();
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
	track->running++;
	if (job->kind == DBOPT_JOB_CHUNK)
		remove_chunk(track, job->seq);
	else if (job->kind == DBOPT_JOB_DELIVER)
		track->wanted = false;
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
	track->not_before = 0;
	if (result->outcome == DBOPT_JOB_FAILED)
		track->not_before = after_failure(&track->failures,
										  result->retry_at, now);
	else if (result->outcome != DBOPT_JOB_REJECTED)
		track->failures = 0;
	if (result->leftover && job->kind == DBOPT_JOB_CHUNK)
		dbopt_track_add_chunk(track, job->seq, now);
	else if (result->leftover)
		dbopt_track_doubt(track);
	if (result->outcome != DBOPT_JOB_DONE && job->kind == DBOPT_JOB_DELIVER)
		dbopt_track_want(track, track->last_news, now);
}

void
dbopt_schedule_finished(const DbOptJob *job, const DbOptJobResult *result,
						TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);
	DbOptTrack *track = dbopt_track_find(job->cursor_id);

	if (job->kind == DBOPT_JOB_INDEX)
		dbopt_index_schedule_ended();
	if (lane != NULL)
		lane->running--;
	if (job->kind == DBOPT_JOB_SUSPECTS)
	{
		if (track != NULL)
			track->running--;
		dbopt_probation_finished(job, result, now);
	}
	else if (job->kind == DBOPT_JOB_RETRY)
	{
		if (lane != NULL)
			retry_ended(lane, result, now);
	}
	else if (track != NULL)
	{
		track->running--;
		delivery_ended(track, job, result, now);
	}
}

/*
 * The session has gone in the middle of this job.  Once is an accident; a job
 * that does it again is put off.
 */
void
dbopt_schedule_lost(const DbOptJob *job, TimestampTz now)
{
	DbOptJobResult result = {.outcome = DBOPT_JOB_FAILED,.leftover = true};
	DbOptLane  *lane = dbopt_lane_find(job->handler_id);
	DbOptTrack *track = dbopt_track_find(job->cursor_id);

	dbopt_schedule_finished(job, &result, now);
	if (job->kind == DBOPT_JOB_SUSPECTS)
		return;
	if (job->kind == DBOPT_JOB_RETRY)
	{
		if (lane != NULL && lane->retry_failures == 1)
			lane->retry_not_before = 0;
	}
	else if (track != NULL && track->failures == 1)
		track->not_before = 0;
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
		track->running = 0;
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
			track->running++;
	}
}
