/*
 * assign.c
 *		Candidates meet sessions.
 *
 * Run by the scheduler alone.  Candidates come most urgent first: by priority,
 * then by the time they have waited.  One that finds no idle session of its
 * role waits for one that is starting, has one started, has an idle session
 * of another role make room, or asks one at work to give way.
 */
#include "postgres.h"

#include "engine/assign.h"
#include "engine/crew.h"
#include "engine/index_schedule.h"

/*
 * Another role's session costs the start of a process: whoever wants its place
 * waits this long, if that role has candidates, too, or callers who take its
 * sessions by themselves: one has within this time.
 */
#define PATIENCE_US		(50 * 1000)

/* A session of another role works this long before it is asked to give way. */
#define MIN_TURN_US		(100 * 1000)

/* What the candidates of this round have been promised. */
static int	leaving_claimed;
static int	yield_claimed;
static bool slot_missing;		/* for one of them, in the cluster */
static int	events_unmet;		/* candidates but callers without a session */
static int	calls_arranged;		/* callers for whom one is on its way */

/* How many sessions may be at work. */
typedef struct Bulkheads
{
	int			all;
	int			events;
	int			calls;
} Bulkheads;

/*
 * Gives the candidate to an idle session, if there is one.
 */
static bool
try_idle(const DbOptCandidate *candidate, TimestampTz now)
{
	DbOptMember *member = dbopt_crew_idle(candidate->role);

	if (member == NULL)
		return false;
	if (candidate->helper)
		dbopt_crew_help_sent(&candidate->job);
	dbopt_schedule_assigned(&candidate->job);
	if (!dbopt_crew_assign(member, &candidate->job, candidate->priority, now))
		dbopt_schedule_lost(&candidate->job, now);
	else if (candidate->promoted)
	{
		member->promoted = true;
		member->priority =
			dbopt_promotion_served(candidate->job.handler_id, now);
	}
	return true;
}

/* When nothing speaks for leaving this session to its own role any longer. */
static TimestampTz
needed_until(const DbOptMember *member)
{
	if (dbopt_crew_role(member->role)->waiting > 0)
		return DBOPT_NEVER;
	return member->job.kind == DBOPT_JOB_SQL ? member->since + PATIENCE_US : 0;
}

/*
 * The session of another role that has been idle longest, if it may be ended
 * for this candidate.
 */
static DbOptMember *
find_victim(const DbOptCandidate *candidate, DbOptCandidates *candidates,
			TimestampTz now)
{
	DbOptMember *best = NULL;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);
		TimestampTz until;

		if (member->state != DBOPT_SESSION_IDLE ||
			member->role == candidate->role)
			continue;
		until = Min(needed_until(member), candidate->since + PATIENCE_US);
		if (until > now)
		{
			candidates->next = Min(candidates->next, until);
			continue;
		}
		if (best == NULL || member->since < best->since)
			best = member;
	}
	return best;
}

static bool
try_make_room(const DbOptCandidate *candidate, DbOptCandidates *candidates,
			  TimestampTz now)
{
	DbOptMember *victim;

	if (leaving_claimed < dbopt_crew_leaving())
	{
		leaving_claimed++;
		return true;
	}
	victim = find_victim(candidate, candidates, now);
	if (victim == NULL)
		return false;
	dbopt_crew_retire(victim, now);
	leaving_claimed++;
	return true;
}

/*
 * Is there, or will there be, a session for this role?
 */
static bool
try_start(const DbOptCandidate *candidate, DbOptCandidates *candidates,
		  int max, TimestampTz now)
{
	DbOptCrewRole *role = dbopt_crew_role(candidate->role);

	if (role->claimed < role->starting)
	{
		role->claimed++;
		return true;
	}
	if (role->not_before > now)
	{
		candidates->next = Min(candidates->next, role->not_before);
		return true;			/* making room would not help */
	}
	switch (dbopt_crew_alive() < max ? dbopt_crew_start(role, max, now) :
			DBOPT_CREW_FULL)
	{
		case DBOPT_CREW_STARTED:
			role->claimed++;
			return true;
		case DBOPT_CREW_NO_SLOT:
			candidates->next = Min(candidates->next, dbopt_crew_retry_at());
			slot_missing = true;
			return false;
		case DBOPT_CREW_FULL:
			return false;
	}
	return false;
}

/*
 * The session at work that should give way to this candidate: of the lowest
 * priority, and then the one longest at work.
 */
static DbOptMember *
find_longest(const DbOptCandidate *candidate, DbOptCandidates *candidates,
			 TimestampTz now)
{
	DbOptMember *best = NULL;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (!dbopt_crew_could_yield(member) ||
			member->priority > candidate->priority)
			continue;
		if (member->role != candidate->role &&
			member->since + MIN_TURN_US > now)
		{
			candidates->next = Min(candidates->next,
								   member->since + MIN_TURN_US);
			continue;
		}
		if (best == NULL || member->priority < best->priority ||
			(member->priority == best->priority &&
			 member->since < best->since))
			best = member;
	}
	return best;
}

static int
count_yielding(void)
{
	int			count = 0;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state == DBOPT_SESSION_BUSY && member->yield)
			count++;
	}
	return count;
}

static void
ask_for_turn(const DbOptCandidate *candidate, DbOptCandidates *candidates,
			 TimestampTz now)
{
	DbOptMember *member;

	/* Those at work on the same cursor will look for its events themselves. */
	if (candidate->helper)
		return;
	if (yield_claimed < count_yielding())
	{
		yield_claimed++;
		return;
	}
	member = find_longest(candidate, candidates, now);
	if (member != NULL)
	{
		dbopt_crew_ask_to_yield(member);
		yield_claimed++;
	}
}

/*
 * Nobody is idle: sees to it that there will be a session.
 */
static void
arrange_session(const DbOptCandidate *candidate, DbOptCandidates *candidates,
				int max, TimestampTz now)
{
	if (!try_start(candidate, candidates, max, now) &&
		!try_make_room(candidate, candidates, now))
		ask_for_turn(candidate, candidates, now);
}

/*
 * Bulkheads: dbopt.pool_reserved sessions are kept from events, for callers
 * and builds, and as many from callers, for events, where there are handlers.
 * While events wait, callers leave them one in any case.  A build's session
 * comes on top.  What sessions of an earlier scheduler are at counts, too.
 */
static Bulkheads
find_bulkheads(const DbOptCandidates *candidates,
			   const DbOptPoolLimits *limits, TimestampTz now)
{
	bool		beside = dbopt_index_schedule_needs_session(now) ||
	dbopt_builds_need_session(now);
	int			for_events = dbopt_lanes_exist() ? dbopt_pool_reserved : 0;
	Bulkheads	result;

	for (int i = 0; i < candidates->count && for_events == 0; i++)
		if (candidates->items[i].job.kind != DBOPT_JOB_SQL)
			for_events = 1;
	result.all = limits->max + (beside ? 1 : 0);
	result.events = Max(limits->max - dbopt_pool_reserved, 1) +
		(beside ? 1 : 0);
	result.calls = Max(limits->max - for_events, 1);
	return result;
}

static int
count_calls(void)
{
	return dbopt_crew_calls() + dbopt_crew_strangers_calling();
}

/* All other jobs. */
static int
count_events(void)
{
	return dbopt_crew_busy() - dbopt_crew_calls() +
		dbopt_crew_strangers_at_events();
}

/* May one more session be at work of this kind? */
static bool
has_place(const DbOptCandidate *candidate, const Bulkheads *bulkheads)
{
	int			calls = count_calls();
	int			events = count_events();

	if (calls + events >= bulkheads->all)
		return false;
	return candidate->job.kind == DBOPT_JOB_SQL ? calls < bulkheads->calls :
		events < bulkheads->events;
}

/*
 * A caller that finds all that callers may have in use waits for one of them.
 */
static bool
may_arrange(const DbOptCandidate *candidate, const Bulkheads *bulkheads)
{
	return candidate->job.kind != DBOPT_JOB_SQL ||
		count_calls() + calls_arranged < bulkheads->calls;
}

/*
 * Do events have all that they may?  Then one of their sessions can do this,
 * and another one would be of no use.
 */
static bool
is_full_of_events(const DbOptCandidate *candidate, const Bulkheads *bulkheads)
{
	return candidate->job.kind != DBOPT_JOB_SQL &&
		count_events() >= bulkheads->events;
}

/*
 * No session for this candidate now.  False: nor for any other.
 */
static bool
leave_waiting(const DbOptCandidate *candidate, DbOptCandidates *candidates,
			  const Bulkheads *bulkheads, TimestampTz now)
{
	if (!candidate->helper)
		candidates->waiting++;
	if (!may_arrange(candidate, bulkheads))
		return true;
	if (candidate->job.kind == DBOPT_JOB_SQL)
		calls_arranged++;
	else if (++events_unmet > bulkheads->all)
		return dbopt_crew_busy() < dbopt_crew_size() ||
			dbopt_crew_calls() > 0;
	if (is_full_of_events(candidate, bulkheads))
		ask_for_turn(candidate, candidates, now);
	else
		arrange_session(candidate, candidates, bulkheads->all, now);
	return true;
}

/*
 * How many callers may be served at a time where they serve themselves until
 * the next round?
 */
static int
find_direct_calls(const DbOptCandidates *candidates,
				  const Bulkheads *bulkheads)
{
	if (candidates->waiting > 0 || dbopt_crew_outdated() ||
		dbopt_crew_alive() > bulkheads->all)
		return 0;
	return bulkheads->calls;
}

void
dbopt_assign_jobs(DbOptCandidates *candidates, const DbOptPoolLimits *limits,
				  TimestampTz now)
{
	Bulkheads	bulkheads = find_bulkheads(candidates, limits, now);

	leaving_claimed = yield_claimed = 0;
	events_unmet = calls_arranged = 0;
	slot_missing = false;
	for (int i = 0; i < candidates->count; i++)
		dbopt_crew_role(candidates->items[i].role)->waiting++;

	for (int i = 0; i < candidates->count; i++)
	{
		DbOptCandidate *candidate = &candidates->items[i];

		if (!dbopt_schedule_has_room(&candidate->job, limits->max))
			continue;
		if (has_place(candidate, &bulkheads) && try_idle(candidate, now))
		{
			dbopt_crew_role(candidate->role)->waiting--;
			if (candidate->due)
				candidates->due--;
		}
		else if (!leave_waiting(candidate, candidates, &bulkheads, now))
			break;
	}
	if (!slot_missing)
		dbopt_crew_all_started();
	candidates->direct_calls = find_direct_calls(candidates, &bulkheads);
}
