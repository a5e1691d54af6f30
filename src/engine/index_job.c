/*
 * index_job.c
 *		What a pool session does to build an index: one attempt.
 *
 * Run by a pool session as the table's owner, or as a superuser where the
 * owner cannot log in: CREATE INDEX then becomes the owner by itself.  What is
 * written down of it is in index_attempt.c.
 *
 * CONCURRENTLY waits for every transaction that could see the index missing:
 * lock_timeout would end that wait, and is off.  What needs a lock that others
 * have to wait for is in index_step.c.
 */
#include "postgres.h"

#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "engine/exec.h"
#include "engine/index_attempt.h"
#include "engine/index_build.h"
#include "engine/index_job.h"
#include "engine/index_leftover.h"
#include "engine/index_partitioned.h"
#include "engine/index_replace.h"
#include "engine/index_step.h"
#include "engine/index_settings.h"
#include "engine/index_survey.h"
#include "engine/index_timed.h"
#include "engine/leave.h"
#include "state/pool.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* ---- the attempt --------------------------------------------------------- */

/*
 * Whoever else builds or drops indexes of the table is waited for: what looks
 * like a leftover may be somebody's work.
 */
static void
wait_for_others(Oid relid)
{
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		(void) find_all_inheritors(relid, ShareUpdateExclusiveLock, NULL);
}

static void
drop_leftovers(DbOptIndexJob *job)
{
	ListCell   *cell;

	foreach(cell, job->leftovers)
	{
		DbOptIndexLeftover *leftover = lfirst(cell);

		if (leftover->partitioned)
			dbopt_index_drop_partitioned(leftover->index, job->context);
		else
			dbopt_index_drop_concurrently(leftover->schema, leftover->name);
	}
}

/* Waits for whoever has locked the index. */
static bool
examine_unlocked(DbOptIndexJob *job)
{
	bool		declared = dbopt_index_job_examine(job);

	if (declared && job->target.locked && OidIsValid(job->target.index))
	{
		LockRelationOid(job->target.index, AccessShareLock);
		declared = dbopt_index_job_examine(job);
	}
	return declared;
}

/* The table as it is now, with what is left of earlier attempts. */
static bool
look(DbOptIndexJob *job)
{
	bool		applies;

	dbopt_index_job_begin(job);
	wait_for_others(job->target.relid);
	applies = examine_unlocked(job) &&
		dbopt_index_row_hash(job->row) == job->declaration &&
		job->target.condition != DBOPT_INDEX_INAPPLICABLE;
	job->leftovers = applies ? dbopt_index_leftovers(&job->target) : NIL;
	dbopt_index_job_commit(job);
	return applies;
}

static const char *
why_not(const DbOptIndexJob *job)
{
	if (job->row == NULL)
		return "it is not declared";
	return job->target.reason != NULL ? job->target.reason :
		"its declaration has changed";
}

static void
build_plain(DbOptIndexJob *job)
{
	const DbOptIndexTarget *target = &job->target;

	if (target->condition == DBOPT_INDEX_DIFFERENT)
	{
		dbopt_index_replace(target, job->context, &job->built);
		return;
	}
	if (target->condition == DBOPT_INDEX_INVALID)
		dbopt_index_drop_concurrently(target->statement->relation->schemaname,
									  job->name);
	dbopt_index_create_timed(target, target->relid, job->name, &job->built);
}

static void
build(void *arg)
{
	DbOptIndexJob *job = arg;

	if (!look(job))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" cannot be built any longer: %s",
						job->name, why_not(job))));
	drop_leftovers(job);
	if (job->target.condition != DBOPT_INDEX_VALID)
	{
		if (dbopt_index_is_partitioned(&job->target, job->context))
			dbopt_index_build_partitioned(&job->target, job->context,
										  &job->parts, &job->built);
		else
			build_plain(job);
	}
	dbopt_index_attempt_succeeded(job);
}

/* What was finished on partitions has no use without the whole. */
static void
add_parts(DbOptIndexJob *job)
{
	ListCell   *cell;

	foreach(cell, job->parts)
	{
		DbOptIndexPart *part = lfirst(cell);
		DbOptIndexLeftover *leftover = part->built ?
		dbopt_index_unattached(part->relid, part->index_name) : NULL;

		if (leftover != NULL)
			job->leftovers = lappend(job->leftovers, leftover);
	}
}

/*
 * What a failed attempt has left; the next one finds what stays.  There may be
 * no next one: the index may not be declared any longer.
 */
static void
clean_up(void *arg)
{
	DbOptIndexJob *job = arg;
	DbOptIndexLeftover *unfinished;

	dbopt_index_job_begin(job);
	wait_for_others(job->applied.relid);
	job->leftovers = dbopt_index_leftovers(&job->applied);
	unfinished = dbopt_index_unfinished(&job->applied);
	if (unfinished != NULL)
		job->leftovers = lappend(job->leftovers, unfinished);
	if (job->recanted)
		add_parts(job);
	dbopt_index_job_commit(job);
	drop_leftovers(job);
}

static void
try_clean_up(DbOptIndexJob *job)
{
	DbOptFailure failure;

	if (!dbopt_exec_guard(clean_up, job, &failure))
		dbopt_index_attempt_log(job, failure.sqlstate, 0,
								psprintf("what a build of index \"%s\" has left could not be dropped",
										 job->name));
}

/*
 * The role's settings must not end a build, or change what it means.  Where a
 * build and somebody's DDL wait for each other, whoever looks for a deadlock
 * first gives way: that is the build, which is tried again.
 */
static void
set_settings(void)
{
	static const char *const settings[][2] = {
		{"lock_timeout", "0"},
		{"deadlock_timeout", "10ms"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_SESSION);
	dbopt_index_settings_keep();
}

/* What is left to do of an attempt whose session has gone. */
static void
resume_end(DbOptIndexJob *job)
{
	if (job->cut_short && OidIsValid(job->applied.relid))
		try_clean_up(job);
	if (job->recanted)
		dbopt_index_attempt_recanted(job);
}

static void
attempt(void *arg)
{
	DbOptIndexJob *job = arg;
	DbOptFailure failure;
	bool		begun;
	bool		built;

	dbopt_index_job_begin(job);
	begun = dbopt_index_attempt_begin(job);
	dbopt_index_job_commit(job);
	if (!begun)
	{
		resume_end(job);
		return;
	}
	built = dbopt_exec_guard(build, job, &failure);
	dbopt_session_build_end();
	dbopt_index_watch_end();
	if (built || dbopt_session_dismissed())
		return;
	job->recanted = dbopt_index_attempt_outdated(job);
	if (job->recanted)
	{
		try_clean_up(job);
		dbopt_index_attempt_recanted(job);
		return;
	}
	dbopt_index_attempt_note(job, &failure);
	try_clean_up(job);
	dbopt_index_attempt_failed(job, &failure);
}

/*
 * Whatever the attempt was at when dbopt was dropped, what it knows of the
 * table is enough to clean up.
 */
static void
run_attempt(DbOptIndexJob *job)
{
	ErrorData  *error = dbopt_exec_guard_all(attempt, job);

	if (dbopt_session_dismissed())
	{
		if (OidIsValid(job->applied.relid))
			dbopt_leave(clean_up, job,
						psprintf("index \"%s\"", job->name));
	}
	else if (error != NULL)
		ReThrowError(error);
}

void
dbopt_index_job_run(const char *name, MemoryContext context)
{
	DbOptIndexJob job = {
		.name = name,
		.context = context,
		.since = GetCurrentTimestamp()
	};

	dbopt_index_step_note_lock_timeout();
	set_settings();
	if (name[0] == '\0')
		dbopt_index_survey(context);
	else
		run_attempt(&job);
}
