/*
 * schedule_callers.c
 *		Backends that wait for a pool session, as candidates for one.
 *
 * Run by the scheduler alone.  They come before all events but those of a
 * handler that has waited for too long (schedule_promote.c), and among
 * themselves in the order of their arrival, whatever their roles; assign.c
 * keeps them from taking everything.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/schedule.h"
#include "miscadmin.h"
#include "state/caller.h"

/* May one more of this role's callers be offered? */
static bool
has_room(const DbOptCrewRole *role, const DbOptWaitingCaller *caller, int max)
{
	int			limit = max;

	if (caller->role_limit >= 0)
		limit = Min(limit, caller->role_limit);
	return role->calls + role->calls_offered < limit;
}

static void
add_caller(DbOptCandidates *candidates, const DbOptWaitingCaller *caller)
{
	DbOptJob	job = {.kind = DBOPT_JOB_SQL,.handler_id = -1};

	job.caller = caller->slot;
	job.ticket = caller->ticket;
	job.segment = caller->segment;
	dbopt_candidates_add(candidates, &job, caller->roleid, PG_INT32_MAX,
						 caller->since);
}

/* Sessions of this role cannot be created: its callers are to know why. */
static void
tell_error(const DbOptCrewRole *role)
{
	dbopt_callers_tell(MyDatabaseId, role->role, role->error_code,
					   role->error);
}

/*
 * Of each role as many as the pool may have sessions.  The rest waits.
 */
void
dbopt_callers_collect(DbOptCandidates *candidates, int max)
{
	int			count;
	DbOptWaitingCaller *callers = dbopt_callers_waiting(MyDatabaseId, &count);

	for (int i = 0; i < count; i++)
	{
		DbOptCrewRole *role = dbopt_crew_role(callers[i].roleid);

		role->called = true;
		if (role->failures > 0 && role->calls_offered == 0)
			tell_error(role);
		if (has_room(role, &callers[i], max))
		{
			role->calls_offered++;
			add_caller(candidates, &callers[i]);
		}
		else
			candidates->waiting++;
	}
	if (count > 0)
		dbopt_candidates_sort(candidates, 0);
}
