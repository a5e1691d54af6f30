/*
 * schedule_promote.c
 *		That handlers of a high priority do not keep the others from their work
 *		for ever, nor callers all of them.
 *
 * Run by the scheduler alone, in its own memory; no lock.
 *
 * What has waited for DBOPT_TURN_WAIT_US while handlers of a higher priority had
 * the sessions comes before them once: the handler that has waited longest is
 * promoted, gets the next session, and keeps it for a chunk, or as long as
 * nobody else wants it.  There is one such turn at a time, and PAUSE_US between
 * two, so that the many of a low priority do not take over either.  Of n
 * handlers that wait, each has a turn within DBOPT_TURN_WAIT_US and n times
 * PAUSE_US and the time of two chunks.
 *
 * While there are callers, that holds for every handler, whatever its priority:
 * who is promoted comes before callers, too, who come before all others.  A call
 * does not give way, so that the time until one has ended comes on top.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/schedule.h"

#define PAUSE_US	(200 * 1000)

static int32 promoted = 0;		/* waits for a session; 0: no handler does */
static TimestampTz promoted_at;
static bool turn = false;		/* a promoted handler is at work */
static TimestampTz pause_until = 0;

/* Of the present round. */
static bool behind_callers;
static int	top_priority;
static bool served_next;		/* who is promoted can have the next session */
static DbOptLane *best;			/* to be promoted next */
static TimestampTz best_since;

static bool
has_turn(void)
{
	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state == DBOPT_SESSION_BUSY && member->promoted)
			return true;
	}
	return false;
}

/* Are there callers, who come before all events? */
static bool
callers_exist(void)
{
	return dbopt_crew_calls() > 0 ||
		pg_atomic_read_u32(&dbopt_shared->callers) > 0;
}

void
dbopt_promotion_begin(TimestampTz now)
{
	bool		had_turn = turn;

	turn = has_turn();
	if (had_turn && !turn)
		pause_until = now + PAUSE_US;
	behind_callers = callers_exist();
	served_next = false;
	best = NULL;
	top_priority = PG_INT32_MIN;
	for (DbOptLane *lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
		top_priority = Max(top_priority, lane->priority);
}

TimestampTz
dbopt_promotion_consider(DbOptLane *lane, TimestampTz since, TimestampTz now)
{
	if (lane->handler_id == promoted)
	{
		served_next = dbopt_crew_role(lane->role)->failures == 0;
		return DBOPT_NEVER;
	}
	if (lane->priority >= top_priority && !behind_callers)
		return DBOPT_NEVER;
	since = Max(since, lane->turn_at);
	if (since + DBOPT_TURN_WAIT_US > now)
		return since + DBOPT_TURN_WAIT_US;
	since = Max(since, lane->promoted_at);
	if (best == NULL || since < best_since)
	{
		best = lane;
		best_since = since;
	}
	return DBOPT_NEVER;
}

/*
 * Nothing came of it: it has no work any longer, or there is no session for its
 * role.  Others that wait come before it.
 */
static void
give_up(TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(promoted);

	if (lane != NULL)
		lane->promoted_at = now;
	promoted = 0;
}

TimestampTz
dbopt_promotion_decide(TimestampTz now)
{
	if (promoted != 0 && !served_next &&
		promoted_at + DBOPT_TURN_WAIT_US <= now)
		give_up(now);
	if (promoted == 0 && best != NULL && !turn && pause_until <= now)
	{
		promoted = best->handler_id;
		promoted_at = now;
		served_next = true;
	}
	if (promoted != 0)
		return served_next ? DBOPT_NEVER : promoted_at + DBOPT_TURN_WAIT_US;
	return best != NULL && !turn ? pause_until : DBOPT_NEVER;
}

bool
dbopt_promotion_is(const DbOptLane *lane)
{
	return lane->handler_id == promoted;
}

bool
dbopt_promotion_passes_callers(void)
{
	return behind_callers;
}

int
dbopt_promotion_served(int32 handler_id, TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(handler_id);

	lane->turn_at = now;
	promoted = 0;
	turn = true;
	return lane->priority;
}
