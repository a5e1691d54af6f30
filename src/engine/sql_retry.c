/*
 * sql_retry.c
 *		Trying a caller's SQL again: when, how often, and what is said at last.
 *
 * Run by the caller's own backend.  The policy is read anew after each
 * failure, so that changes count at once.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "compat.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/sql_retry.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

static const DbOptPolicy *
find_policy(const char *name)
{
	const DbOptPolicy *policy = dbopt_config_policy_get(name);

	if (policy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("retry policy \"%s\" does not exist", name),
				 errhint("Put it back into the table dbopt_retry_policy.")));
	return policy;
}

void
dbopt_sql_retry_check(const DbOptSqlRetry *retry)
{
	(void) find_policy(retry->policy);
}

static void
log_failure(const DbOptSqlRetry *retry, const ErrorData *error,
			const char *message, int64 delay)
{
	DbOptLogLine line = {
		.kind = delay > 0 ? DBOPT_LOG_SQL_RETRY : DBOPT_LOG_SQL_GIVE_UP,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.message = message,
		.attempt = retry->attempts,
		.sqlstate = unpack_sql_state(error->sqlerrcode),
		.duration = GetCurrentTimestamp() - retry->since,
		.delay = delay,
		.subject = "policy",
		.subject_value = retry->policy
	};

	dbopt_log_line(&line);
}

bool
dbopt_sql_retry_next(DbOptSqlRetry *retry, const ErrorData *error,
					 int64 *delay)
{
	const DbOptPolicy *policy = find_policy(retry->policy);

	retry->attempts++;
	if (retry->attempts >= policy->max_attempts ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		!dbopt_classify(policy->rules, policy->nrules, policy->retry_unknown,
						unpack_sql_state(error->sqlerrcode), error->message))
	{
		if (retry->attempts > 1)
			log_failure(retry, error,
						psprintf("SQL was given up after %d attempts, by policy \"%s\"",
								 retry->attempts, retry->policy), 0);
		return false;
	}
	*delay = dbopt_backoff_delay(&policy->backoff, retry->attempts, 0,
								 pg_prng_double(&pg_global_prng_state));
	log_failure(retry, error,
				psprintf("SQL failed and is tried again, by policy \"%s\"",
						 retry->policy), *delay);
	return true;
}

void
dbopt_sql_retry_wait(DbOptSqlRetry *retry, int64 delay)
{
	TimestampTz until = GetCurrentTimestamp() + delay;
	long		left;

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   until)) > 0)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, WAIT_EVENT_PG_SLEEP);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	retry->delay += delay;
}

void
dbopt_sql_retry_tell(const DbOptSqlRetry *retry, ErrorData *error)
{
	const char *own = error->detail == NULL ? "" : error->detail;

	error->detail = psprintf("%s%sAttempts: %d. Total delay: %d ms.",
							 own, *own == '\0' ? "" : "\n", retry->attempts,
							 (int) (retry->delay / 1000));
}
