/*
 * schedule_promote.c
 *		That handlers of a high priority do not keep the others from their work
 *		for ever.
 *
 * Run by the scheduler alone, in its own memory; no lock.
 *
 * What has waited for WAIT_US while handlers of a higher priority had the
 * sessions comes before them once: the handler that has waited longest is
 * promoted, gets the next session, and keeps it for a chunk, or as long as
 * nobody else wants it.  There is one such turn at a time, and PAUSE_US between
 * two, so that the many of a low priority do not take over either.  Of n
 * handlers that wait, each has a turn within WAIT_US and n times PAUSE_US and
 * the time of two chunks.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/schedule.h"

#define WAIT_US		(1000 * 1000)
#define PAUSE_US	(200 * 1000)

static int32 promoted = 0;		/* waits for a session; 0: no handler does */
static TimestampTz promoted_at;
static bool turn = false;		/* a promoted handler is at work */
static TimestampTz pause_until = 0;

/* Of the present round. */
static int	top_priority;
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

/* Nothing came of it: there is no session for its role, for one. */
static void
give_up(TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(promoted);

	if (lane != NULL)
		lane->promoted_at = now;
	promoted = 0;
	pause_until = now + PAUSE_US;
}

void
dbopt_promotion_begin(TimestampTz now)
{
	bool		had_turn = turn;

	turn = has_turn();
	if (had_turn && !turn)
		pause_until = now + PAUSE_US;
	if (promoted != 0 && promoted_at + WAIT_US <= now)
		give_up(now);
	best = NULL;
	top_priority = PG_INT32_MIN;
	for (DbOptLane *lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
		top_priority = Max(top_priority, lane->priority);
}

TimestampTz
dbopt_promotion_consider(DbOptLane *lane, TimestampTz since, TimestampTz now)
{
	if (lane->priority >= top_priority || lane->handler_id == promoted)
		return DBOPT_NEVER;
	since = Max(since, lane->promoted_at);
	if (since + WAIT_US > now)
		return since + WAIT_US;
	if (best == NULL || since < best_since)
	{
		best = lane;
		best_since = since;
	}
	return DBOPT_NEVER;
}

TimestampTz
dbopt_promotion_decide(TimestampTz now)
{
	if (promoted == 0 && best != NULL && !turn && pause_until <= now)
	{
		promoted = best->handler_id;
		promoted_at = now;
	}
	if (promoted != 0)
		return promoted_at + WAIT_US;
	return best != NULL && !turn ? pause_until : DBOPT_NEVER;
}

bool
dbopt_promotion_is(const DbOptLane *lane)
{
	return lane->handler_id == promoted;
}

int
dbopt_promotion_served(int32 handler_id, TimestampTz now)
{
	DbOptLane  *lane = dbopt_lane_find(handler_id);

	lane->promoted_at = now;
	promoted = 0;
	turn = true;
	return lane->priority;
}
