/*
 * suspect_job.c
 *		The job of running what may have crashed the server.
 *
 * Run by pool sessions while no other runs events in the whole cluster
 * (probation.c).  What is attempted is written down durably first (attempt.c),
 * so that a crash meanwhile is known to be its doing.
 *
 * A chunk, or the first of a handler's retries, is attempted as a group at
 * first: most crashes are nobody's fault, and that takes one durable commit.
 * When the server has crashed in that, they are attempted one by one.  A
 * policy with too few attempts for that many crashes has them so at once: the
 * scheduler decides (probation.c), which lets others run beside a group that
 * takes long.
 *
 * An event that crashes the server alone has failed, with an error of its own,
 * and is tried again, alone, as its policy says, or is given up.
 */
#include "postgres.h"

#include "engine/attempt.h"
#include "engine/chunk.h"
#include "engine/dissolve.h"
#include "engine/job_run.h"
#include "engine/retry.h"
#include "engine/suspect.h"
#include "state/pool.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * Single events are run for this long, then the scheduler may let others have
 * their turn.
 */
#define TURN_MS		500

static void
begin_attempt(DbOptJobRun *run, DbOptAttempt *attempt)
{
	attempt->handler_id = run->job->handler_id;
	dbopt_exec_begin();
	dbopt_attempt_begin(attempt);
	dbopt_job_round_commit(run, DBOPT_COMMIT_SYNC);
}

/* Runs the chunk with an attempt around it. */
static void
attempt_chunk(DbOptJobRun *run)
{
	DbOptAttempt attempt = {0};

	if (!dbopt_delivery_admit(&run->delivery, 1))
	{
		dbopt_job_finish_rejected(run);
		return;
	}
	attempt.cursor_id = run->job->cursor_id;
	attempt.seq = run->job->seq;
	begin_attempt(run, &attempt);
	(void) dbopt_job_run_chunk(run, run->job->seq, 0);
	dbopt_attempt_take_back();
}

static void
run_chunk(DbOptJobRun *run)
{
	bool		ready = dbopt_job_round_begin(run) &&
	dbopt_job_find_cursor(run) && dbopt_job_is_handlers_cursor(run);
	int			suspicion = ready ?
	dbopt_chunk_suspicion(run->job->cursor_id, run->job->seq) : -1;

	dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
	if (suspicion < 0)
		return;
	if (suspicion == DBOPT_SUSPECT_GROUP && run->job->in_group)
		attempt_chunk(run);
	else
	{
		dbopt_chunk_dissolve(&run->delivery, run->cursor, run->job->seq);
		if (run->delivery.locked)
			dbopt_job_finish_blocked(run);
	}
}

/*
 * What to attempt of the handler's retries, in a transaction; false: none is
 * due.
 */
static bool
choose_retries(DbOptJobRun *run, DbOptAttempt *attempt)
{
	bool		in_group = run->job->in_group;
	DbOptAttempt *crashed;
	DbOptFailed *suspect;

	MemoryContextSwitchTo(run->round_context);
	crashed = dbopt_attempt_crashed(run->job->handler_id);
	if (crashed != NULL)
	{
		*attempt = *crashed;
		return true;
	}
	suspect = dbopt_queue_suspect(run->job->handler_id,
								  in_group ? DBOPT_SUSPECT_GROUP :
								  DBOPT_SUSPECT_KILLER,
								  GetCurrentTimestamp());
	if (suspect == NULL)
		return false;
	memset(attempt, 0, sizeof(*attempt));
	if (!in_group)
	{
		attempt->position = suspect->position;
		attempt->key = suspect->key;
	}
	return true;
}

/* How the failure of an event that has crashed the server reads. */
static DbOptFailure
crash_failure(const DbOptHandler *handler)
{
	DbOptFailure failure = {0};

	strlcpy(failure.sqlstate, "57P02", sizeof(failure.sqlstate));
	failure.message = psprintf("the server crashed while handler \"%s\" ran this event and no other handler ran",
							   handler->name);
	return failure;
}

static DbOptRetryResult
attempt_retries(DbOptJobRun *run, DbOptAttempt *attempt)
{
	DbOptFailure crash;
	DbOptRetryResult result;

	if (attempt->crashed)
	{
		crash = crash_failure(run->delivery.handler);
		return dbopt_retry_suspects(&run->delivery, attempt, &crash);
	}
	begin_attempt(run, attempt);
	result = dbopt_retry_suspects(&run->delivery, attempt, NULL);
	dbopt_attempt_take_back();
	return result;
}

/* Runs one event, or a group; true: there may be more. */
static bool
retry_round(DbOptJobRun *run)
{
	DbOptAttempt attempt;
	DbOptRetryResult result;
	bool		found = dbopt_job_round_begin(run) &&
	choose_retries(run, &attempt);

	dbopt_job_round_commit(run, DBOPT_COMMIT_ASYNC);
	if (!found)
		return false;
	if (!dbopt_delivery_admit(&run->delivery, DBOPT_SINGLE_BATCH))
	{
		dbopt_job_finish_rejected(run);
		return false;
	}
	result = attempt_retries(run, &attempt);
	dbopt_delivery_release(&run->delivery);
	if (result == DBOPT_RETRY_BLOCKED)
		dbopt_job_finish_blocked(run);
	return result == DBOPT_RETRY_SOME;
}

static void
run_retries(DbOptJobRun *run)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  TURN_MS);

	while (retry_round(run))
		if (dbopt_session_should_yield() || GetCurrentTimestamp() >= end)
		{
			dbopt_job_finish(run, DBOPT_JOB_MORE);
			return;
		}
}

void
dbopt_job_run_suspects(DbOptJobRun *run)
{
	if (run->job->cursor_id != 0)
		run_chunk(run);
	else
		run_retries(run);
}
