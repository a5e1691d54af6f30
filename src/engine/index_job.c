/*
 * index_job.c
 *		What a pool session does to build an index: one attempt.
 *
 * Run by a pool session as the table's owner, or as a superuser where the
 * owner cannot log in: CREATE INDEX then becomes the owner by itself.  An
 * attempt is written down before it begins, so that one which kills its
 * session counts, and what it did is looked up in the catalogue afterwards,
 * whoever did it.
 *
 * CONCURRENTLY waits for every transaction that could see the index missing:
 * lock_timeout would end that wait, and is off.  What needs a lock that others
 * have to wait for is in index_replace.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "common/pg_prng.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/index_job.h"
#include "engine/index_leftover.h"
#include "engine/index_replace.h"
#include "engine/index_state.h"
#include "engine/index_survey.h"
#include "engine/index_target.h"
#include "engine/index_timed.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define POLICY "database"

typedef struct IndexJob
{
	const char *name;
	MemoryContext context;		/* outlives the transactions */
	DbOptIndexRow *row;
	DbOptIndexTarget target;
	DbOptIndexTarget applied;	/* the last one that could be built */
	List	   *leftovers;
	int			attempt;
	bool		cut_short;		/* the attempt before: its session has gone */
	TimestampTz since;			/* when this attempt began */
	bool		built;			/* by this attempt */
} IndexJob;

/* ---- transactions -------------------------------------------------------- */

static void
begin(const IndexJob *job)
{
	CHECK_FOR_INTERRUPTS();
	dbopt_exec_begin();
	MemoryContextSwitchTo(job->context);
}

static void
commit(const IndexJob *job)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(job->context);
}

/* The declaration as it is now, held against the database as it is now. */
static bool
examine(IndexJob *job)
{
	job->row = dbopt_index_row_find(dbopt_index_rows(), job->name);
	if (job->row == NULL)
		return false;
	dbopt_index_examine(job->row, &job->target);
	if (job->target.condition != DBOPT_INDEX_INAPPLICABLE)
		job->applied = job->target;
	return true;
}

/* ---- the beginning and the end of an attempt ----------------------------- */

static const DbOptPolicy *
policy(void)
{
	return dbopt_config_policy(dbopt_config_get(), POLICY);
}

static TimestampTz
next_attempt(int attempt)
{
	double		random = pg_prng_double(&pg_global_prng_state);

	return GetCurrentTimestamp() +
		dbopt_backoff_delay(&policy()->backoff, attempt, 0, random);
}

static void
set_error(DbOptIndexState *state, const char *sqlstate, const char *message)
{
	state->error_code = pstrdup(sqlstate);
	state->error_message = pstrdup(message);
	state->failed_at = GetCurrentTimestamp();
}

/* How the attempt has ended. */
static void
log_end(const IndexJob *job, const char *sqlstate, TimestampTz again_at,
		const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	DbOptLogLine line = {
		.kind = DBOPT_LOG_INDEX,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.message = message,
		.attempt = job->attempt,
		.sqlstate = sqlstate,
		.duration = now - job->since,
		.delay = again_at == 0 ? 0 : again_at - now,
		.subject = "index",
		.subject_value = job->name
	};

	if (sqlstate != NULL)
		line.hint = "dbopt_index_status() shows why; dbopt_ensure_indexes() tries again.";
	dbopt_log_line(&line);
}

static void
give_up(const IndexJob *job, DbOptIndexState *state)
{
	state->progress = DBOPT_INDEX_FAILED;
	log_end(job, state->error_code, 0,
			psprintf(ngettext("index \"%s\" was given up after %d attempt",
							  "index \"%s\" was given up after %d attempts",
							  state->attempts),
					 state->name, state->attempts));
}

/* Nothing is to be done any longer. */
static void
settle(DbOptIndexState *state)
{
	state->progress = DBOPT_INDEX_IDLE;
	state->attempts = 0;
	state->next_attempt_at = 0;
}

/* Is there anything to do?  Writes down that it is being done. */
static bool
begin_attempt(IndexJob *job)
{
	DbOptIndexState *state = dbopt_index_state_lock(job->name);

	if (state->progress != DBOPT_INDEX_QUEUED &&
		state->progress != DBOPT_INDEX_BUILDING)
		return false;
	job->cut_short = state->progress == DBOPT_INDEX_BUILDING;
	if (!examine(job) || job->target.condition == DBOPT_INDEX_INAPPLICABLE)
	{
		job->applied = job->target;
		settle(state);
		dbopt_index_state_write(state);
		return false;
	}
	if (state->attempts >= policy()->max_attempts)
	{
		set_error(state, "57P01", "the session that was building it has gone");
		give_up(job, state);
		dbopt_index_state_write(state);
		return false;
	}
	job->attempt = ++state->attempts;
	state->progress = DBOPT_INDEX_BUILDING;
	state->next_attempt_at = next_attempt(job->attempt);
	dbopt_index_state_write(state);
	return true;
}

static void
attempt_succeeded(IndexJob *job)
{
	DbOptIndexState *state;

	begin(job);
	state = dbopt_index_state_lock(job->name);
	if (!examine(job) || job->target.condition != DBOPT_INDEX_VALID)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was changed while it was being built",
						job->name)));
	settle(state);
	if (job->built)
	{
		state->built = true;
		state->index = job->target.index;
		state->schema =
			get_namespace_name(get_rel_namespace(job->target.relid));
	}
	state->error_code = NULL;
	state->error_message = NULL;
	state->failed_at = 0;
	dbopt_index_state_write(state);
	commit(job);
	if (job->built)
		log_end(job, NULL, 0, psprintf("index \"%s\" was built", job->name));
}

/* At once: to clean up may have to wait as long as to build. */
static void
note_error(IndexJob *job, const DbOptFailure *failure)
{
	DbOptIndexState *state;

	begin(job);
	state = dbopt_index_state_lock(job->name);
	set_error(state, failure->sqlstate,
			  failure->detail == NULL ? failure->message :
			  psprintf("%s: %s", failure->message, failure->detail));
	dbopt_index_state_write(state);
	commit(job);
}

static void
attempt_failed(IndexJob *job, const DbOptFailure *failure)
{
	const DbOptPolicy *rules;
	DbOptIndexState *state;

	begin(job);
	rules = policy();
	state = dbopt_index_state_lock(job->name);
	if (job->attempt >= rules->max_attempts ||
		!dbopt_classify(rules->rules, rules->nrules, rules->retry_unknown,
						failure->sqlstate, failure->message))
		give_up(job, state);
	else
	{
		state->progress = DBOPT_INDEX_QUEUED;
		state->next_attempt_at = next_attempt(job->attempt);
		log_end(job, failure->sqlstate, state->next_attempt_at,
				psprintf("index \"%s\" could not be built, which is tried again",
						 job->name));
	}
	dbopt_index_state_write(state);
	commit(job);
}

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
drop_leftovers(IndexJob *job)
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

/* The table as it is now, with what is left of earlier attempts. */
static bool
look(IndexJob *job)
{
	bool		applies;

	begin(job);
	wait_for_others(job->target.relid);
	applies = examine(job) &&
		job->target.condition != DBOPT_INDEX_INAPPLICABLE;
	job->leftovers = applies ? dbopt_index_leftovers(&job->target) : NIL;
	commit(job);
	return applies;
}

static void
build_plain(IndexJob *job)
{
	const DbOptIndexTarget *target = &job->target;

	if (target->condition == DBOPT_INDEX_DIFFERENT)
	{
		dbopt_index_replace(target, job->context);
		return;
	}
	if (target->condition == DBOPT_INDEX_INVALID)
		dbopt_index_drop_concurrently(target->statement->relation->schemaname,
									  job->name);
	dbopt_index_create_timed(target, target->relid, job->name);
}

static void
build(void *arg)
{
	IndexJob   *job = arg;

	if (!look(job))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" cannot be built any longer: %s",
						job->name, job->row == NULL ? "it is not declared" :
						job->target.reason)));
	drop_leftovers(job);
	if (job->target.condition != DBOPT_INDEX_VALID)
	{
		if (dbopt_index_is_partitioned(&job->target, job->context))
			dbopt_index_build_partitioned(&job->target, job->context);
		else
			build_plain(job);
		job->built = true;
	}
	attempt_succeeded(job);
}

/*
 * What a failed attempt has left; the next one finds what stays.  There may be
 * no next one: the index may not be declared any longer.
 */
static void
clean_up(void *arg)
{
	IndexJob   *job = arg;
	DbOptIndexLeftover *unfinished;

	begin(job);
	wait_for_others(job->applied.relid);
	job->leftovers = dbopt_index_leftovers(&job->applied);
	unfinished = dbopt_index_unfinished(&job->applied);
	if (unfinished != NULL)
		job->leftovers = lappend(job->leftovers, unfinished);
	commit(job);
	drop_leftovers(job);
}

static void
try_clean_up(IndexJob *job)
{
	DbOptFailure failure;

	if (!dbopt_exec_guard(clean_up, job, &failure))
		log_end(job, failure.sqlstate, 0,
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
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_SESSION);
}

void
dbopt_index_job_run(const char *name, MemoryContext context)
{
	IndexJob	job = {
		.name = name,
		.context = context,
		.since = GetCurrentTimestamp()
	};
	DbOptFailure failure;
	bool		begun;

	dbopt_index_note_lock_timeout();
	set_settings();
	if (name[0] == '\0')
	{
		dbopt_index_survey(context);
		return;
	}
	begin(&job);
	begun = begin_attempt(&job);
	commit(&job);
	if (!begun && job.cut_short && OidIsValid(job.applied.relid))
		try_clean_up(&job);
	if (!begun || dbopt_exec_guard(build, &job, &failure))
		return;
	dbopt_index_watch_end();
	note_error(&job, &failure);
	try_clean_up(&job);
	attempt_failed(&job, &failure);
}
