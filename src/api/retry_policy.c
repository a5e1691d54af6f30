/*
 * retry_policy.c
 *		What the retry policies say: SQL functions.
 *
 * Run by whoever wants to know, with the policies that are in force now.  They
 * need no shared memory.
 */
#include "postgres.h"

#include "api/arguments.h"
#include "common/pg_prng.h"
#include "engine/config.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_retry_delay);
PG_FUNCTION_INFO_V1(dbopt_is_retryable);

#define POLICIES_HINT	"The table dbopt_retry_policy lists the policies."
#define SQLSTATE_HINT \
	"A SQLSTATE has five characters, each a digit or a letter from A to Z, such as 40001."

/* A text argument that has to be given. */
static char *
required_text(FunctionCallInfo fcinfo, int number, const char *name,
			  const char *hint)
{
	dbopt_argument_require(fcinfo, number, name, hint);
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static const DbOptPolicy *
policy_named(const char *name)
{
	const DbOptPolicy *policy = dbopt_config_policy_get(name);

	if (policy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("retry policy \"%s\" does not exist", name),
				 errhint(POLICIES_HINT)));
	return policy;
}

static int
attempt_argument(FunctionCallInfo fcinfo, int number)
{
	int			attempt;

	dbopt_argument_require(fcinfo, number, "attempt",
						   "Give the number of attempts made so far, at least 1.");
	attempt = PG_GETARG_INT32(number);
	if (attempt < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attempt must be at least 1, not %d", attempt),
				 errhint("Give the number of attempts made so far: the delay after the first one is that of attempt 1.")));
	return attempt;
}

/* The random number given, or drawn where it is null. */
static double
random_argument(FunctionCallInfo fcinfo, int number)
{
	double		random;

	if (PG_ARGISNULL(number))
		return pg_prng_double(&pg_global_prng_state);
	random = PG_GETARG_FLOAT8(number);
	if (!(random >= 0 && random < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("random must be at least 0 and less than 1"),
				 errhint("Leave it out to have it drawn.")));
	return random;
}

/* dbopt_retry_delay(attempt int, policy text, random float8) -> interval */
Datum
dbopt_retry_delay(PG_FUNCTION_ARGS)
{
	int			attempt = attempt_argument(fcinfo, 0);
	char	   *name = required_text(fcinfo, 1, "policy", POLICIES_HINT);
	double		random = random_argument(fcinfo, 2);
	const DbOptPolicy *policy = policy_named(name);
	Interval   *delay = palloc0(sizeof(Interval));

	delay->time = dbopt_backoff_delay(&policy->backoff, attempt, 0, random);
	PG_RETURN_INTERVAL_P(delay);
}

/* Letters may come in lower case. */
static char *
sqlstate_argument(FunctionCallInfo fcinfo, int number)
{
	char	   *given = required_text(fcinfo, number, "sqlstate",
									  SQLSTATE_HINT);
	char	   *sqlstate = asc_toupper(given, strlen(given));

	if (!dbopt_sqlstate_valid(sqlstate))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a SQLSTATE", given),
				 errhint(SQLSTATE_HINT)));
	return sqlstate;
}

/* dbopt_is_retryable(sqlstate text, message text, policy text) -> boolean */
Datum
dbopt_is_retryable(PG_FUNCTION_ARGS)
{
	char	   *sqlstate = sqlstate_argument(fcinfo, 0);
	char	   *message = PG_ARGISNULL(1) ? "" :
	text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *name = required_text(fcinfo, 2, "policy", POLICIES_HINT);
	const DbOptPolicy *policy = policy_named(name);

	PG_RETURN_BOOL(dbopt_classify(policy->rules, policy->nrules,
								  policy->retry_unknown, sqlstate, message));
}
