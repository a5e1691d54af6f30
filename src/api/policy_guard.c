/*
 * policy_guard.c
 *		Row triggers of dbopt_retry_policy and dbopt_retryable_error.
 *
 * Run by whoever writes these tables, which is the installer or a superuser,
 * and by a restore.  Here is what may stand in a row; shipped_rows.c has the
 * rest.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "api/shipped_rows.h"
#include "commands/extension.h"
#include "engine/config.h"
#include "policy/backoff.h"
#include "policy/classify.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_policy_guard);
PG_FUNCTION_INFO_V1(dbopt_rule_guard);

/* ---- what a policy may be ---- */

static void
refuse_policy(HeapTuple row, TupleDesc desc, int column, const char *must,
			  const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("%s of retry policy \"%s\" must be %s",
					NameStr(TupleDescAttr(desc, column - 1)->attname),
					dbopt_column_text(row, desc, Anum_policy_name), must),
			 errhint("%s", hint)));
}

static void
check_count(HeapTuple row, TupleDesc desc, int column, const char *hint)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	if (!isnull && DatumGetInt32(value) < 1)
		refuse_policy(row, desc, column, "at least 1", hint);
}

/* "least" is in microseconds. */
static void
check_duration(HeapTuple row, TupleDesc desc, int column, int64 least,
			   const char *must, const char *hint)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);
	Interval   *span;

	if (isnull)
		return;
	span = DatumGetIntervalP(value);
	if (span->month != 0)
		refuse_policy(row, desc, column, "given without months and years",
					  "Their length varies; give days or less.");
	if ((double) span->day * USECS_PER_DAY + (double) span->time < least)
		refuse_policy(row, desc, column, must, hint);
}

static void
check_multiplier(HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(row, Anum_policy_multiplier, desc,
									 &isnull);

	if (!isnull && !(DatumGetFloat8(value) >= 1 &&
					 isfinite(DatumGetFloat8(value))))
		refuse_policy(row, desc, Anum_policy_multiplier,
					  "a finite number of at least 1",
					  "1 makes every delay the same, 2 doubles them.");
}

static void
check_jitter(HeapTuple row, TupleDesc desc)
{
	char	   *name = dbopt_column_text(row, desc, Anum_policy_jitter);
	DbOptJitter jitter;

	if (name != NULL && !dbopt_jitter_parse(name, &jitter))
		refuse_policy(row, desc, Anum_policy_jitter,
					  "one of none, proportional, equal and full",
					  "With full jitter a delay is anything from nothing up to the computed one.");
}

static void
check_policy(HeapTuple row, TupleDesc desc)
{
	char	   *name = dbopt_column_text(row, desc, Anum_policy_name);

	if (name == NULL)
		return;					/* refused as NULL */
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the name of a retry policy must not be empty"),
				 errhint("Handlers name the policy they use.")));
	check_count(row, desc, Anum_policy_max_attempts,
				"It counts the first try: 1 means that nothing is retried.");
	check_duration(row, desc, Anum_policy_base_delay, 0, "0 or more",
				   "It is the delay before the second attempt.");
	check_duration(row, desc, Anum_policy_max_delay, 0, "0 or more",
				   "It limits every delay.");
	check_multiplier(row, desc);
	check_jitter(row, desc);
	check_count(row, desc, Anum_policy_failure_threshold,
				"It is how many retryable failures in a row open the circuit breaker.");
	check_duration(row, desc, Anum_policy_reset_timeout, 1, "more than 0",
				   "It is how long the circuit breaker stays open before a trial.");
	check_count(row, desc, Anum_policy_half_open_trials,
				"It is how many events a half-open circuit breaker lets through.");
}

/* A policy that goes, or changes its name. */
static void
check_policy_unused(HeapTuple row, TupleDesc desc)
{
	char	   *name = dbopt_column_text(row, desc, Anum_policy_name);
	ListCell   *cell;

	foreach(cell, dbopt_config_get()->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (strcmp(handler->policy->name, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("retry policy \"%s\" is used by handler \"%s\"",
							name, handler->name),
					 errhint("Register the handler with another policy first.")));
	}
}

/* ---- what a rule may be ---- */

static void
refuse_rule(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg_internal("%s", message),
			 errhint("%s", hint)));
}

static void
check_rule(HeapTuple row, TupleDesc desc)
{
	char	   *policy = dbopt_column_text(row, desc, Anum_error_policy);
	char	   *sqlstate = dbopt_column_text(row, desc, Anum_error_sqlstate);
	char	   *pattern = dbopt_column_text(row, desc, Anum_error_pattern);

	if (sqlstate == NULL && pattern == NULL)
		refuse_rule("a rule needs a sqlstate or a pattern",
					"What no rule speaks of is decided by the policy's retry_unknown.");
	if (sqlstate != NULL && !dbopt_sqlstate_valid(sqlstate) &&
		!dbopt_sqlclass_valid(sqlstate))
		refuse_rule(psprintf("\"%s\" is neither a SQLSTATE nor a class of them",
							 sqlstate),
					"A SQLSTATE has five characters, its class the first two of them, each a digit or an upper-case letter from A to Z.");
	if (pattern != NULL && pattern[0] == '\0')
		refuse_rule("the pattern of a rule must not be empty",
					"Set it to NULL for a rule that goes by the sqlstate alone.");
	if (policy != NULL && !creating_extension &&
		dbopt_config_policy(dbopt_config_get(), policy) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("retry policy \"%s\" does not exist", policy),
				 errhint("The table dbopt_retry_policy lists them; NULL means all of them.")));
}

/* ---- shipped rows ---- */

static const DbOptShippedTable policies = {
	DBOPT_RETRY_POLICY, "retry policy", "the name", 1,
	Anum_policy_shipped, Anum_policy_edited,
	check_policy, check_policy_unused,
	"Edit it, or write one with another name.", NULL
};

static const DbOptShippedTable rules = {
	DBOPT_RETRYABLE_ERROR, "rule", "policy, sqlstate or pattern", 3,
	Anum_error_shipped, Anum_error_edited,
	check_rule, NULL,
	"Set its column retryable, or add a rule that is more specific.", NULL
};

Datum
dbopt_policy_guard(PG_FUNCTION_ARGS)
{
	return dbopt_shipped_guard(&policies, fcinfo);
}

Datum
dbopt_rule_guard(PG_FUNCTION_ARGS)
{
	return dbopt_shipped_guard(&rules, fcinfo);
}
