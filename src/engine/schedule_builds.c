/*
 * schedule_builds.c
 *		Which log indexes have to be built, and when.
 *
 * Run by the scheduler alone, in its own memory; loading is done in a
 * transaction.  One index is built at a time.  A build that fails is repeated
 * after a delay that grows with every failure.
 */
#include "postgres.h"

#include "engine/builder.h"
#include "engine/crew.h"
#include "engine/extension.h"
#include "engine/owner_spi.h"
#include "engine/schedule.h"
#include "policy/backoff.h"
#include "utils/memutils.h"

typedef struct DbOptBuild
{
	int32		source_id;
	Oid			role;			/* of the session that builds: the owner's */
	Oid			deputy;			/* the extension's owner, if that one fails */
	TimestampTz since;			/* known to be needed */
	TimestampTz not_before;		/* after an attempt */
	int			failures;		/* in a row */
} DbOptBuild;

static const DbOptBackoff build_backoff = {
	.base_delay = 1000000,
	.max_delay = 600000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

/* Sessions of an earlier scheduler are known by their handler. */
#define NO_HANDLER 0

/* Until the news of a build that has succeeded are here. */
#define SETTLE_US	USECS_PER_SEC

static List *builds = NIL;		/* of DbOptBuild *, in the order of sources */
static int	running = 0;

static DbOptBuild *
find_build(int32 source_id)
{
	ListCell   *cell;

	foreach(cell, builds)
	{
		DbOptBuild *build = lfirst(cell);

		if (build->source_id == source_id)
			return build;
	}
	return NULL;
}

/* What is known of a build already stays known. */
static DbOptBuild
describe(const DbOptSource *source, TimestampTz now)
{
	const DbOptBuild *known = find_build(source->source_id);
	DbOptBuild	build = {.since = now};

	if (known != NULL)
		build = *known;
	build.source_id = source->source_id;
	build.deputy = dbopt_extension_owner();
	build.role = dbopt_builder_choose(source->relid, build.deputy);
	return build;
}

static List *
keep(List *list, const DbOptBuild *build)
{
	MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
	DbOptBuild *kept = palloc(sizeof(DbOptBuild));

	*kept = *build;
	list = lappend(list, kept);
	MemoryContextSwitchTo(previous);
	return list;
}

void
dbopt_builds_load(const DbOptConfig *config, TimestampTz now)
{
	List	   *loaded = NIL;
	ListCell   *cell;

	foreach(cell, config->sources)
	{
		const DbOptSource *source = lfirst(cell);
		DbOptBuild	build;

		if (!source->building || config->paused)
			continue;
		build = describe(source, now);
		if (OidIsValid(build.role))
			loaded = keep(loaded, &build);
	}
	list_free_deep(builds);
	builds = loaded;
}

/* The build that has waited longest of those that are due; NULL: none. */
static DbOptBuild *
first_due(TimestampTz now)
{
	DbOptBuild *first = NULL;
	ListCell   *cell;

	if (dbopt_crew_strangers(NO_HANDLER) > 0 || dbopt_crew_leavers() > 0)
		return NULL;
	foreach(cell, builds)
	{
		DbOptBuild *build = lfirst(cell);

		if (build->not_before <= now &&
			(first == NULL || build->since < first->since))
			first = build;
	}
	return first;
}

/* Adds the build that is due, unless one is under way. */
void
dbopt_builds_collect(DbOptCandidates *candidates, TimestampTz now)
{
	DbOptBuild *first = first_due(now);
	DbOptJob	job = {.kind = DBOPT_JOB_LOG_INDEX};
	ListCell   *cell;

	if (running > 0)
		return;
	if (first != NULL)
	{
		job.source_id = first->source_id;
		dbopt_candidates_add(candidates, &job,
							 dbopt_builder_fails(first->role) ? first->deputy :
							 first->role, PG_INT32_MAX, first->since);
		return;
	}
	foreach(cell, builds)
		candidates->next = Min(candidates->next,
							   ((DbOptBuild *) lfirst(cell))->not_before);
}

bool
dbopt_builds_running(void)
{
	return running > 0;
}

/* A build's session comes on top of those for events. */
bool
dbopt_builds_need_session(TimestampTz now)
{
	return running > 0 || first_due(now) != NULL;
}

void
dbopt_builds_assigned(void)
{
	running++;
}

void
dbopt_builds_finished(const DbOptJob *job, const DbOptJobResult *result,
					  TimestampTz now)
{
	DbOptBuild *build = find_build(job->source_id);

	running--;
	if (build == NULL)
		return;
	build->since = now;
	if (result->outcome == DBOPT_JOB_FAILED)
	{
		build->failures++;
		build->not_before = now + dbopt_backoff_base(&build_backoff,
													 build->failures);
	}
	else
	{
		build->failures = 0;
		build->not_before = now + SETTLE_US;
	}
}
