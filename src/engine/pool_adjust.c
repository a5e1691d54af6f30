/*
 * pool_adjust.c
 *		How many sessions a database keeps when nobody waits for one.
 *
 * Run by the scheduler alone.  dbopt.pool_min sessions are kept warm, spread
 * over the roles that handlers run as; others end after an idle timeout.  A
 * database that is short of a session slot comes before anybody's warm ones.
 */
#include "postgres.h"

#include "engine/assign.h"
#include "engine/crew.h"
#include "utils/timestamp.h"

#define MAX_WARMING		4		/* sessions starting at once, not for a job */
#define WARM_RETRY_MS	60000	/* after there was no slot for a warm one */
#define LOOK_MS			1000	/* whether callers have given sessions back,
								 * at the most often */

static int	owed = 0;			/* sessions to give up to other databases */

static DbOptMember *
longest_idle(void)
{
	DbOptMember *best = NULL;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state == DBOPT_SESSION_IDLE &&
			(best == NULL || member->since < best->since))
			best = member;
	}
	return best;
}

/* Of two at work, which is to go?  A call that has just begun may be short. */
static bool
goes_before(const DbOptMember *member, const DbOptMember *other)
{
	bool		yields = dbopt_crew_could_yield(member);

	if (yields != dbopt_crew_could_yield(other))
		return yields;
	return yields ? member->since < other->since :
		member->since > other->since;
}

/*
 * The one at work that is to go next: of those that can give way the one longest
 * at it, else a caller's.  Builds stay.
 */
static DbOptMember *
find_busy(void)
{
	DbOptMember *best = NULL;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (!member->outdated &&
			(dbopt_crew_could_yield(member) || dbopt_crew_calling(member)) &&
			(best == NULL || goes_before(member, best)))
			best = member;
	}
	return best;
}

/*
 * Gives up what other databases have asked for.  Where all are at work, the one
 * that is told to go does so when its job is done, whoever waits for it here.
 */
static void
settle_debt(TimestampTz now)
{
	while (owed > 0)
	{
		DbOptMember *member = longest_idle();

		if (member != NULL)
			dbopt_crew_retire(member, now);
		else
		{
			member = find_busy();
			if (member == NULL)
				return;
			member->outdated = true;
			if (dbopt_crew_could_yield(member))
				dbopt_crew_ask_to_yield(member);
		}
		owed--;
	}
}

static void
retire_idle(const DbOptPoolLimits *limits, TimestampTz now, TimestampTz *next)
{
	DbOptMember *member;
	TimestampTz due;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		member = dbopt_crew_member(i);
		if (member->state == DBOPT_SESSION_IDLE &&
			!dbopt_crew_role(member->role)->needed &&
			!dbopt_crew_role(member->role)->called)
			dbopt_crew_retire(member, now);
	}
	while (dbopt_crew_alive() > limits->min &&
		   (member = longest_idle()) != NULL)
	{
		due = TimestampTzPlusMilliseconds(member->since,
										  limits->idle_timeout);
		if (due > now && dbopt_crew_alive() <= limits->max)
		{
			*next = Min(*next, due);
			break;
		}
		dbopt_crew_retire(member, now);
	}

	/* What a caller gives back may not be told. */
	if (dbopt_crew_calls() > 0)
		*next = Min(*next, TimestampTzPlusMilliseconds(now,
													   Max(limits->idle_timeout,
														   LOOK_MS)));
}

static bool
others_want_session(void)
{
	int			i;

	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
		if (pg_atomic_read_u32(&dbopt_database_slot(i)->wants_session) != 0)
			return true;
	return false;
}

static DbOptCrewRole *
coldest_role(TimestampTz now, TimestampTz *next)
{
	DbOptCrewRole *best = NULL;
	DbOptCrewRole *role;

	for (role = dbopt_crew_next_role(true); role != NULL;
		 role = dbopt_crew_next_role(false))
	{
		if (!role->needed)
			continue;
		if (role->not_before > now)
			*next = Min(*next, role->not_before);
		else if (best == NULL || role->alive < best->alive)
			best = role;
	}
	return best;
}

static int
count_starting(void)
{
	int			count = 0;
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
		if (dbopt_crew_member(i)->state == DBOPT_SESSION_STARTING)
			count++;
	return count;
}

static void
start_warm(const DbOptPoolLimits *limits, TimestampTz now, TimestampTz *next)
{
	while (dbopt_crew_alive() < limits->min &&
		   count_starting() < MAX_WARMING && !others_want_session())
	{
		DbOptCrewRole *role = coldest_role(now, next);

		if (role == NULL)
			break;
		if (dbopt_crew_start_warm(role, limits->max, now) !=
			DBOPT_CREW_STARTED)
		{
			*next = Min(*next, TimestampTzPlusMilliseconds(now,
														   WARM_RETRY_MS));
			break;
		}
	}
}

void
dbopt_pool_adjust(const DbOptPoolLimits *limits, bool reclaim,
				  TimestampTz now, TimestampTz *next)
{
	TimestampTz overdue;

	if (reclaim)
		owed = 1;
	settle_debt(now);
	retire_idle(limits, now, next);
	start_warm(limits, now, next);
	overdue = dbopt_crew_end_overdue(limits->create_timeout, now);
	*next = Min(*next, overdue);
}
