/*
 * pooled_breaker.c
 *		A call and the circuit breaker "database".
 *
 * Run by callers.
 */
#include "postgres.h"

#include "engine/config.h"
#include "engine/pooled.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "utils/timestamp.h"

#define BREAKER "database"

/* What has to be given back when the call ends; one call at a time. */
static DbOptAdmission admission;
static int	breaker = -1;

static const DbOptPolicy *
find_policy(void)
{
	const DbOptPolicy *policy = dbopt_config_policy_get(BREAKER);

	if (policy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("retry policy \"%s\" does not exist", BREAKER),
				 errhint("Put it back into the table dbopt_retry_policy.")));
	return policy;
}

void
dbopt_pooled_breaker_ask(void)
{
	int			slot = dbopt_handler_find(MyDatabaseId, 0);
	TimestampTz until;

	admission = dbopt_circuit_admit(slot, &find_policy()->breaker, 1);
	breaker = slot;
	if (admission.granted > 0)
		return;
	until = dbopt_circuit_blocked_until(slot);
	ereport(ERROR,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("circuit breaker \"%s\" is open", BREAKER),
			 until == 0 || until == PG_INT64_MAX ?
			 errdetail("It stays so until it is reset, or a trial has succeeded.") :
			 errdetail("It stays so until %s.", timestamptz_to_str(until)),
			 errhint("dbopt_reset_circuit_breaker('%s') closes it.", BREAKER)));
}

/* A call that ends without a verdict leaves the breaker as it was. */
void
dbopt_pooled_breaker_release(void)
{
	if (admission.granted > 0)
		dbopt_circuit_release(breaker, &admission, 1);
	admission.granted = 0;
}

/*
 * A conflict between transactions is retryable, but says nothing about the
 * database: it has answered.
 */
static bool
counts(const ErrorData *error)
{
	const DbOptPolicy *policy = find_policy();

	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TRANSACTION_ROLLBACK ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	return dbopt_classify(policy->rules, policy->nrules,
						  policy->retry_unknown,
						  unpack_sql_state(error->sqlerrcode),
						  error->message);
}

static void
report_failure(bool counts)
{
	DbOptAdmission reported = admission;

	admission.granted = 0;
	dbopt_circuit_failure(breaker, &reported, counts);
}

void
dbopt_pooled_breaker_success(void)
{
	DbOptAdmission reported = admission;

	admission.granted = 0;
	dbopt_circuit_success(breaker, &reported, 1);
}

void
dbopt_pooled_breaker_failure(void)
{
	report_failure(true);
}

void
dbopt_pooled_breaker_error(const ErrorData *error)
{
	report_failure(counts(error));
}

int
dbopt_pooled_breaker_slot(void)
{
	return breaker;
}
