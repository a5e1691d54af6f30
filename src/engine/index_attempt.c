/*
 * index_attempt.c
 *		One attempt to build an index, as it is written down.
 *
 * Run by pool sessions.  An attempt is written down before it begins, so that
 * one which kills its session counts, and what it did is looked up in the
 * catalogue afterwards, whoever did it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/index_attempt.h"
#include "engine/index_own.h"
#include "engine/index_state.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "state/pool.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define POLICY "database"

/* ---- one transaction ----------------------------------------------------- */

void
dbopt_index_job_begin(const DbOptIndexJob *job)
{
	CHECK_FOR_INTERRUPTS();
	dbopt_exec_begin();
	MemoryContextSwitchTo(job->context);
}

void
dbopt_index_job_commit(const DbOptIndexJob *job)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(job->context);
}

bool
dbopt_index_job_examine(DbOptIndexJob *job)
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

void
dbopt_index_attempt_log(const DbOptIndexJob *job, const char *sqlstate, TimestampTz again_at,
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
give_up(const DbOptIndexJob *job, DbOptIndexState *state)
{
	state->progress = DBOPT_INDEX_FAILED;
	dbopt_index_attempt_log(job, state->error_code, 0,
							psprintf(ngettext("index \"%s\" was given up after %d attempt",
											  "index \"%s\" was given up after %d attempts",
											  state->attempts),
									 state->name, state->attempts));
}

/* Nothing can be built. */
static void
call_off(DbOptIndexJob *job, DbOptIndexState *state)
{
	job->applied = job->target;
	if (job->row == NULL)
	{
		dbopt_index_state_forget(state);
		return;
	}
	dbopt_index_state_settle(state);
	dbopt_index_state_write(state);
}

/*
 * The attempt before was for a declaration that is not there any longer.  What
 * it has left is on the table that it was for.
 */
static void
recant(DbOptIndexJob *job, const DbOptIndexState *state)
{
	DbOptIndexRow *row = palloc0(sizeof(DbOptIndexRow));

	row->name = pstrdup(job->name);
	memset(&job->applied, 0, sizeof(job->applied));
	job->applied.row = row;
	if (get_rel_name(state->table) != NULL)
		job->applied.relid = state->table;
	job->recanted = true;
}

/*
 * What is there while nothing was when an attempt began whose session has gone
 * since, before it could say so, was built by it.
 */
static void
note_beginning(DbOptIndexJob *job, DbOptIndexState *state)
{
	bool		valid = job->target.condition == DBOPT_INDEX_VALID;

	job->built = state->began_without && valid && !job->target.locked &&
		!dbopt_index_state_outdated(state, job->row);
	state->began_without = !valid || job->built;
}

bool
dbopt_index_attempt_begin(DbOptIndexJob *job)
{
	static const DbOptFailure gone = {
		.sqlstate = "57P01",
		.message = "the session that was building it has gone"
	};
	DbOptIndexState *state = dbopt_index_state_lock(job->name);
	bool		declared;

	if (state->progress != DBOPT_INDEX_QUEUED &&
		state->progress != DBOPT_INDEX_BUILDING)
		return false;
	job->cut_short = state->progress == DBOPT_INDEX_BUILDING;
	declared = dbopt_index_job_examine(job);
	if (job->cut_short && dbopt_index_state_outdated(state, job->row))
	{
		recant(job, state);
		return false;
	}
	if (!declared || job->target.condition == DBOPT_INDEX_INAPPLICABLE)
	{
		call_off(job, state);
		return false;
	}
	note_beginning(job, state);
	if (state->attempts >= policy()->max_attempts)
	{
		if (job->built)
			dbopt_index_own_note(state, job->target.index);
		dbopt_index_state_note_error(state, &gone);
		give_up(job, state);
		dbopt_index_state_write(state);
		return false;
	}
	job->attempt = ++state->attempts;
	state->progress = DBOPT_INDEX_BUILDING;
	state->next_attempt_at = next_attempt(job->attempt);
	state->declaration = job->declaration = dbopt_index_row_hash(job->row);
	state->table = job->target.relid;
	dbopt_index_state_write(state);
	dbopt_session_build_begin(job->declaration);
	return true;
}

/* False: there is no valid index as it was declared when this began. */
static bool
note_built(DbOptIndexJob *job, DbOptIndexState *state)
{
	dbopt_index_examine(job->row, &job->target);
	if (job->target.condition != DBOPT_INDEX_VALID)
		return false;
	if (job->built)
		dbopt_index_own_note(state, job->target.index);
	return true;
}

/* The declaration as it is now. */
static DbOptIndexRow *
present_row(const DbOptIndexJob *job)
{
	return dbopt_index_row_find(dbopt_index_rows(), job->name);
}

void
dbopt_index_attempt_succeeded(DbOptIndexJob *job)
{
	DbOptIndexState *state;
	DbOptIndexRow *row;

	dbopt_index_job_begin(job);
	state = dbopt_index_state_lock(job->name);
	if (!note_built(job, state))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" was changed while it was being built",
						job->name)));
	row = present_row(job);
	if (dbopt_index_state_outdated(state, row))
		dbopt_index_state_renew(state, row, GetCurrentTimestamp());
	else
	{
		dbopt_index_state_settle(state);
		dbopt_index_state_write(state);
	}
	dbopt_index_job_commit(job);
	if (job->built)
		dbopt_index_attempt_log(job, NULL, 0, psprintf("index \"%s\" was built", job->name));
}

bool
dbopt_index_attempt_outdated(DbOptIndexJob *job)
{
	DbOptIndexRow *row;

	dbopt_index_job_begin(job);
	row = present_row(job);
	dbopt_index_job_commit(job);
	return row == NULL || dbopt_index_row_hash(row) != job->declaration;
}

void
dbopt_index_attempt_recanted(DbOptIndexJob *job)
{
	DbOptIndexState *state;

	dbopt_index_job_begin(job);
	state = dbopt_index_state_lock(job->name);
	if (state->progress == DBOPT_INDEX_BUILDING)
	{
		if (job->built)
			(void) note_built(job, state);
		dbopt_index_state_renew(state, present_row(job),
								GetCurrentTimestamp());
	}
	dbopt_index_job_commit(job);
	dbopt_index_attempt_log(job, NULL, 0,
							psprintf("the build of index \"%s\" has ended: its declaration has changed",
									 job->name));
}

void
dbopt_index_attempt_note(DbOptIndexJob *job, const DbOptFailure *failure)
{
	DbOptIndexState *state;

	dbopt_index_job_begin(job);
	state = dbopt_index_state_lock(job->name);
	dbopt_index_state_note_error(state, failure);
	dbopt_index_state_write(state);
	dbopt_index_job_commit(job);
}

/* Has somebody called dbopt_ensure_indexes() since the attempt began? */
static bool
is_asked_for(const DbOptIndexState *state)
{
	return state->attempts == 0;
}

void
dbopt_index_attempt_failed(DbOptIndexJob *job, const DbOptFailure *failure)
{
	const DbOptPolicy *rules;
	DbOptIndexState *state;

	dbopt_index_job_begin(job);
	rules = policy();
	state = dbopt_index_state_lock(job->name);
	state->began_without = false;
	if (job->built)
		(void) note_built(job, state);
	if (!is_asked_for(state) &&
		(job->attempt >= rules->max_attempts ||
		 !dbopt_classify(rules->rules, rules->nrules, rules->retry_unknown,
						 failure->sqlstate, failure->message)))
		give_up(job, state);
	else
	{
		state->progress = DBOPT_INDEX_QUEUED;
		state->next_attempt_at = next_attempt(job->attempt);
		dbopt_index_attempt_log(job, failure->sqlstate, state->next_attempt_at,
								psprintf("index \"%s\" could not be built, which is tried again",
										 job->name));
	}
	dbopt_index_state_write(state);
	dbopt_index_job_commit(job);
}
