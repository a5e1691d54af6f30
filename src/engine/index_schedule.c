/*
 * index_schedule.c
 *		The scheduler's part in building indexes: one at a time.
 *
 * Run by the scheduler alone.  The queue is in dbopt_index_state; the first
 * entry is kept here, and read again when a build has ended and when the
 * configuration has changed.  An entry that says "building" while nobody
 * builds was left by a session that has gone, and is due again.  When a
 * declaration changes while its index is being built, the session is told so.
 * With dbopt.auto_index a session is sent first to queue what is missing.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "engine/builder.h"
#include "engine/crew.h"
#include "engine/index_row.h"
#include "engine/index_schedule.h"
#include "engine/index_state.h"
#include "state/guc.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* Sessions of an earlier scheduler are known by their handler. */
#define NO_HANDLER 0

static bool first_load = true;
static bool stale = true;		/* the queue is to be read */
static bool running = false;
static DbOptJob first;			/* of the queue; kind NONE: it is empty */
static Oid	first_role;
static TimestampTz first_at;
static TimestampTz survey_at = DBOPT_NEVER; /* when to look for what is
											 * missing */

/* Somebody else may be able to build it. */
static bool
is_stuck(void)
{
	return first.kind == DBOPT_JOB_INDEX &&
		first_role != BOOTSTRAP_SUPERUSERID &&
		dbopt_builder_fails(first_role);
}

bool
dbopt_index_schedule_due(TimestampTz now)
{
	return (stale || is_stuck()) && !running;
}

/* ---- the queue ----------------------------------------------------------- */

static bool
is_outdated_build(const DbOptIndexState *state, const DbOptIndexRow *row)
{
	return state->progress == DBOPT_INDEX_BUILDING &&
		dbopt_index_state_outdated(state, row);
}

/*
 * The role of the session that builds (builder.c); what the author of the row
 * may do is checked in any case.  It is a superuser where something is only to
 * be dropped, which may be on another table than the declared one.
 */
static Oid
builder_role(const DbOptIndexState *state, const DbOptIndexRow *row)
{
	Oid			relid = row != NULL ? dbopt_index_table_find(row->table_name) :
	InvalidOid;
	Oid			role = InvalidOid;

	if (OidIsValid(relid) && !is_outdated_build(state, row))
		role = dbopt_builder_choose(relid, BOOTSTRAP_SUPERUSERID);
	return OidIsValid(role) ? role : BOOTSTRAP_SUPERUSERID;
}

/*
 * A build that a clean restart has ended has not failed.
 */
static void
take_attempt_back(DbOptIndexState *state, TimestampTz now)
{
	state = dbopt_index_state_lock(state->name);
	if (state->progress != DBOPT_INDEX_BUILDING)
		return;
	state->progress = DBOPT_INDEX_QUEUED;
	state->attempts = Max(state->attempts - 1, 0);
	state->next_attempt_at = now;
	dbopt_index_state_write(state);
}

static void
take_attempts_back(TimestampTz now)
{
	ListCell   *cell;

	if (dbopt_shared->unclean_start || dbopt_crew_strangers(NO_HANDLER) > 0)
		return;
	foreach(cell, dbopt_index_states())
	{
		DbOptIndexState *state = lfirst(cell);

		if (state->progress == DBOPT_INDEX_BUILDING)
			take_attempt_back(state, now);
	}
}

static bool
comes_first(const DbOptIndexState *state, const DbOptIndexState *than)
{
	if (state->progress != DBOPT_INDEX_QUEUED &&
		state->progress != DBOPT_INDEX_BUILDING)
		return false;
	if (than == NULL || state->next_attempt_at < than->next_attempt_at)
		return true;
	return state->next_attempt_at == than->next_attempt_at &&
		strcmp(state->name, than->name) < 0;
}

/* What is built for a declaration that has changed is not wanted any more. */
static void
cancel_outdated(void)
{
	List	   *rows = dbopt_index_rows();
	ListCell   *cell;

	foreach(cell, dbopt_index_states())
	{
		DbOptIndexState *state = lfirst(cell);

		if (is_outdated_build(state, dbopt_index_row_find(rows, state->name)))
			dbopt_crew_cancel_build(state->name, state->declaration);
	}
}

void
dbopt_index_schedule_load(TimestampTz now)
{
	const DbOptIndexState *best = NULL;
	ListCell   *cell;

	cancel_outdated();
	if (running)
		return;
	if (first_load)
		take_attempts_back(now);
	first_load = false;
	stale = false;
	dbopt_index_states_tidy(now);
	foreach(cell, dbopt_index_states())
	{
		if (comes_first(lfirst(cell), best))
			best = lfirst(cell);
	}
	memset(&first, 0, sizeof(first));
	if (best == NULL)
		return;
	first.kind = DBOPT_JOB_INDEX;
	namestrcpy(&first.index, best->name);
	first_role = builder_role(best, dbopt_index_row_find(dbopt_index_rows(),
														 best->name));
	first_at = best->next_attempt_at;
}

/* ---- the survey ---------------------------------------------------------- */

/* One that failed is repeated after this time. */
#define SURVEY_AGAIN_MS	60000

static const DbOptJob survey = {.kind = DBOPT_JOB_INDEX};

static bool
is_survey(const DbOptJob *job)
{
	return NameStr(job->index)[0] == '\0';
}

void
dbopt_index_schedule_survey(TimestampTz now)
{
	survey_at = now;
}

/* The setting is on as we start, or was switched on. */
static void
heed_setting(TimestampTz now)
{
	static bool was_on = false;

	if (dbopt_auto_index && !was_on)
		survey_at = now;
	was_on = dbopt_auto_index;
}

/* ---- the job ------------------------------------------------------------- */

static bool
is_free(void)
{
	return !running && dbopt_crew_strangers(NO_HANDLER) == 0 &&
		dbopt_crew_leavers() == 0;
}

static bool
is_due(TimestampTz now)
{
	return is_free() && (survey_at <= now ||
						 (first.kind == DBOPT_JOB_INDEX && first_at <= now));
}

static void
add_next(DbOptCandidates *candidates)
{
	candidates->next = Min(candidates->next, survey_at);
	if (first.kind == DBOPT_JOB_INDEX)
		candidates->next = Min(candidates->next, first_at);
}

void
dbopt_index_schedule_collect(DbOptCandidates *candidates, TimestampTz now)
{
	heed_setting(now);
	if (is_due(now) && survey_at <= now)
		dbopt_candidates_add(candidates, &survey, BOOTSTRAP_SUPERUSERID,
							 PG_INT32_MAX, survey_at);
	else if (is_due(now))
		dbopt_candidates_add(candidates, &first, first_role, PG_INT32_MAX,
							 first_at);
	else if (is_free())
		add_next(candidates);
}

bool
dbopt_index_schedule_needs_session(TimestampTz now)
{
	return running || dbopt_crew_strangers(NO_HANDLER) > 0 || is_due(now);
}

bool
dbopt_index_schedule_running(void)
{
	return running;
}

void
dbopt_index_schedule_assigned(const DbOptJob *job)
{
	running = true;
	if (is_survey(job))
		survey_at = DBOPT_NEVER;
}

void
dbopt_index_schedule_ended(const DbOptJob *job, const DbOptJobResult *result,
						   TimestampTz now)
{
	running = false;
	stale = true;
	if (is_survey(job) && result->outcome != DBOPT_JOB_DONE)
		survey_at = Min(survey_at,
						TimestampTzPlusMilliseconds(now, SURVEY_AGAIN_MS));
}
