/*
 * schedule_collect.c
 *		What could be done now: from lanes and tracks to candidates.
 *
 * Run by the scheduler alone, in its own memory, but for the handlers' slots
 * in shared memory, whose atomics and spinlock circuit.h hides.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/index_schedule.h"
#include "engine/locked.h"
#include "engine/schedule.h"
#include "state/circuit.h"
#include "state/solo.h"

/*
 * A session at work on a cursor finds new events by itself, between chunks.
 * Only when it has not looked for this long is another one sent.
 */
#define HELP_AFTER_US	1000

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
	candidate->promoted = false;
	candidate->first = false;
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
 * Until when the lane's work, which is due, is held back; 0: it is not.
 */
static TimestampTz
held_back_until(const DbOptLane *lane)
{
	if (dbopt_solo_is_stalled(lane->slot))
		return DBOPT_NEVER;		/* woken by dbopt_solo_unstall() */
	return dbopt_locked_until(lane->source_id, lane->handler_id);
}

/*
 * May the lane have something now?
 */
static bool
is_free(const DbOptLane *lane)
{
	return lane->open && held_back_until(lane) == 0 &&
		dbopt_circuit_blocked_until(lane->slot) == 0;
}

/*
 * Sessions are at work on this track, and it is wanted: is it time to send
 * another one?  They may have seen all there is, and then it is not wanted.
 */
static bool
needs_help(DbOptTrack *track, DbOptCandidates *candidates, TimestampTz now)
{
	uint64		looked_at = dbopt_crew_looked_at(track->cursor_id);

	if (looked_at >= track->last_news)
	{
		track->wanted = false;
		return false;
	}
	if (looked_at >= track->since_news)
		dbopt_track_rejoin(track, now);
	if (now - track->since >= HELP_AFTER_US)
		return true;
	candidates->due++;
	candidates->next = Min(candidates->next, track->since + HELP_AFTER_US);
	return false;
}

/*
 * Candidates for a track that is ready: at most "room" of them.
 */
static void
collect_track(DbOptCandidates *candidates, const DbOptLane *lane,
			  const DbOptTrack *track, int room)
{
	DbOptJob	job = {0};
	dlist_iter	iter;

	job.handler_id = lane->handler_id;
	job.cursor_id = track->cursor_id;
	job.kind = DBOPT_JOB_CHUNK;
	dlist_foreach(iter, (dlist_head *) &track->chunks)
	{
		if (room-- <= 0)
			return;
		job.seq = dlist_container(DbOptLeftover, node, iter.cur)->seq;
		add_due(candidates, lane, &job, track->since, false);
	}
	job.kind = DBOPT_JOB_DELIVER;
	job.seq = 0;
	if (track->wanted && track->running == 0 && room > 0)
		add_due(candidates, lane, &job, track->since, false);
}

/*
 * Candidates for the tracks that have waited longest, a little more than
 * there is room for, to see whether some are left over.
 */
static void
collect_tracks(DbOptCandidates *candidates, DbOptLane *lane, int first,
			   int room)
{
	int			limit = first + Max(room, 0) + 1;
	int			ntaken = 0;
	DbOptTrack **taken = palloc(sizeof(DbOptTrack *) *
								(limit - candidates->count + 1));

	while (candidates->count < limit && dbopt_lane_first(lane) != NULL)
	{
		DbOptTrack *track = dbopt_lane_take(lane);

		taken[ntaken++] = track;
		collect_track(candidates, lane, track, limit - candidates->count);
	}
	candidates->due += lane->nready - ntaken;
	for (int i = 0; i < ntaken; i++)
		dbopt_lane_put_back(lane, taken[i]);
	pfree(taken);
}

static void
collect_retries(DbOptCandidates *candidates, const DbOptLane *lane,
				TimestampTz now)
{
	TimestampTz at = dbopt_lane_retries_due_at(lane);
	DbOptJob	job = {.kind = DBOPT_JOB_RETRY,.handler_id = lane->handler_id};

	if (!lane->retry_behind && lane->look_behind_at > now)
		job.since = dbopt_lane_retry_at(lane);
	if (at <= now)
		add_due(candidates, lane, &job, at, false);
	else
		candidates->next = Min(candidates->next, at);
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

	if (job->kind == DBOPT_JOB_SQL)
		return true;
	if (job->kind == DBOPT_JOB_INDEX || job->kind == DBOPT_JOB_LOG_INDEX)
		return !dbopt_index_schedule_running() && !dbopt_builds_running();
	return lane != NULL && lane_room(lane, max) > 0;
}

static void
collect_lane(DbOptCandidates *candidates, DbOptLane *lane, int max,
			 TimestampTz now)
{
	int			first = candidates->count;
	int			room = lane_room(lane, max);

	collect_retries(candidates, lane, now);
	collect_tracks(candidates, lane, first, room);
	dbopt_candidates_limit(candidates, first, room, lane, now);
	if (dbopt_promotion_is(lane) && candidates->count > first)
	{
		candidates->items[first].promoted = true;
		candidates->items[first].priority = DBOPT_PROMOTED_PRIORITY;
		candidates->items[first].first = dbopt_promotion_passes_callers();
	}
	dbopt_crew_role(lane->role)->offered += candidates->count - first;
}

/*
 * Tracks that sessions are at work on, and that have had news since.
 */
static void
collect_busy_tracks(DbOptCandidates *candidates, int max, TimestampTz now)
{
	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		DbOptTrack *track;
		DbOptLane  *lane;

		if (member->state != DBOPT_SESSION_BUSY ||
			member->job.kind == DBOPT_JOB_RETRY)
			continue;
		track = dbopt_track_find(member->job.cursor_id);
		if (track == NULL || !track->wanted || track->not_before != 0 ||
			track->helped_at == now)
			continue;
		track->helped_at = now;
		lane = dbopt_lane_find(track->handler_id);
		if (lane != NULL && is_free(lane) &&
			needs_help(track, candidates, now))
		{
			DbOptJob	job = {.kind = DBOPT_JOB_DELIVER};

			job.handler_id = lane->handler_id;
			job.cursor_id = track->cursor_id;
			candidates->due++;
			if (lane_room(lane, max) > 0)
			{
				DbOptCandidate *candidate = add_candidate(candidates, lane,
														  &job, track->since);

				candidate->due = candidate->helper = true;
			}
		}
	}
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
		if (lane != NULL && is_free(lane) && lane_room(lane, max) > 0)
			add_candidate(candidates, lane, &member->job,
						  now)->helper = true;
	}
}

/* A lane that has something to do now. */
typedef struct LaneWork
{
	DbOptLane  *lane;
	int			priority;
	TimestampTz since;
} LaneWork;

static int
compare_work(const void *a, const void *b)
{
	const LaneWork *left = a;
	const LaneWork *right = b;

	if (left->priority != right->priority)
		return left->priority > right->priority ? -1 : 1;
	if (left->since != right->since)
		return left->since < right->since ? -1 : 1;
	return 0;
}

/*
 * Since when something of the lane is due; DBOPT_NEVER: nothing is.
 */
static TimestampTz
due_since(DbOptCandidates *candidates, const DbOptLane *lane, TimestampTz now)
{
	const DbOptTrack *track;
	TimestampTz retry_at;
	TimestampTz since = DBOPT_NEVER;
	TimestampTz blocked;

	if (!lane->open)
		return DBOPT_NEVER;
	track = dbopt_lane_first(lane);
	retry_at = dbopt_lane_retries_due_at(lane);
	if (track != NULL)
		since = track->since;
	if (retry_at <= now)
		since = Min(since, retry_at);
	if (track == NULL && retry_at == DBOPT_NEVER)
		return DBOPT_NEVER;
	blocked = held_back_until(lane);
	if (blocked != 0 && since != DBOPT_NEVER)
		candidates->due += Max(lane->nready, 1);
	if (blocked == 0)
		blocked = dbopt_circuit_blocked_until(lane->slot);
	if (blocked != 0)
	{
		candidates->next = Min(candidates->next, blocked);
		return DBOPT_NEVER;
	}
	if (retry_at > now)
		candidates->next = Min(candidates->next, retry_at);
	return since;
}

/* Priorities, when it is known which lane comes first this time. */
static void
set_priorities(LaneWork *work, int count)
{
	for (int i = 0; i < count; i++)
		work[i].priority = dbopt_promotion_is(work[i].lane) ?
			DBOPT_PROMOTED_PRIORITY : work[i].lane->priority;
}

static void
consider(DbOptCandidates *candidates, const LaneWork *work, int max,
		 TimestampTz now)
{
	if (lane_room(work->lane, max) > 0)
		candidates->next = Min(candidates->next,
							   dbopt_promotion_consider(work->lane,
														work->since, now));
}

/*
 * The lanes that have something to do, most urgent first.
 */
static LaneWork *
find_work(DbOptCandidates *candidates, int max, int *count, TimestampTz now)
{
	int			size = 64;
	LaneWork   *work = palloc(size * sizeof(LaneWork));
	DbOptLane  *lane;

	*count = 0;
	dbopt_promotion_begin(now);
	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
	{
		TimestampTz since = due_since(candidates, lane, now);

		if (since == DBOPT_NEVER)
			continue;
		if (*count == size)
		{
			size *= 2;
			work = repalloc(work, size * sizeof(LaneWork));
		}
		work[*count].lane = lane;
		work[*count].since = since;
		consider(candidates, &work[(*count)++], max, now);
	}
	candidates->next = Min(candidates->next, dbopt_promotion_decide(now));
	set_priorities(work, *count);
	qsort(work, *count, sizeof(LaneWork), compare_work);
	return work;
}

/*
 * What could be done now, most urgent first, in the round's context: of each
 * role as much as all the sessions could do twice over, and what else is due
 * is counted.  "max" is the number of sessions that the database may have.
 */
DbOptCandidates *
dbopt_schedule_collect(int max, TimestampTz now)
{
	DbOptCandidates *candidates = palloc0(sizeof(DbOptCandidates));
	LaneWork   *work;
	int			count;

	candidates->size = 64;
	candidates->items = palloc(candidates->size * sizeof(DbOptCandidate));
	candidates->next = dbopt_tracks_put_off_until(now);
	collect_busy_tracks(candidates, max, now);
	work = find_work(candidates, max, &count, now);
	for (int i = 0; i < count; i++)
	{
		if (dbopt_crew_role(work[i].lane->role)->offered < 2 * max)
			collect_lane(candidates, work[i].lane, max, now);
		else
			candidates->due += Max(work[i].lane->nready, 1);
	}
	collect_helpers(candidates, max, now);
	dbopt_index_schedule_collect(candidates, now);
	dbopt_builds_collect(candidates, now);
	dbopt_candidates_sort(candidates, 0);
	return candidates;
}
