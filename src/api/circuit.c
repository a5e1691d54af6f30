/*
 * circuit.c
 *		Circuit breakers: SQL functions.
 *
 * There is one breaker for each registered handler of this database, and one
 * named "database" for the statements that callers hand to the pool.  They are
 * shared by all sessions, so that what is done here counts at once and does
 * not wait for a commit.
 */
#include "postgres.h"

#include "api/arguments.h"
#include "api/primary.h"
#include "engine/config.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define DATABASE_BREAKER	"database"	/* its policy has the same name */

/* A breaker: whose it is, and the configuration that is in force. */
typedef struct DbOptNamedBreaker
{
	const char *name;
	int32		handler_id;		/* 0: the database's */
	int			failure_threshold;
} DbOptNamedBreaker;

PG_FUNCTION_INFO_V1(dbopt_circuit_breakers);
PG_FUNCTION_INFO_V1(dbopt_circuit_breaker_state);
PG_FUNCTION_INFO_V1(dbopt_reset_circuit_breaker);
PG_FUNCTION_INFO_V1(dbopt_trip_circuit_breaker);

static DbOptNamedBreaker
breaker_of_database(const DbOptConfig *config)
{
	DbOptPolicy *policy = dbopt_config_policy(config, DATABASE_BREAKER);
	DbOptNamedBreaker breaker = {DATABASE_BREAKER, 0,
	policy != NULL ? policy->breaker.failure_threshold : 0};

	return breaker;
}

static DbOptNamedBreaker
breaker_of_handler(const DbOptHandler *handler)
{
	DbOptNamedBreaker breaker = {handler->name, handler->handler_id,
	handler->policy->breaker.failure_threshold};

	return breaker;
}

/* 42704 with a hint when there is no such breaker. */
static DbOptNamedBreaker
breaker_named(const DbOptConfig *config, const char *name)
{
	ListCell   *cell;

	if (strcmp(name, DATABASE_BREAKER) == 0)
		return breaker_of_database(config);
	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (strcmp(handler->name, name) == 0)
			return breaker_of_handler(handler);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("circuit breaker \"%s\" does not exist", name),
			 errhint("There is one for each registered handler, and \"%s\"; dbopt_circuit_breakers() lists them.",
					 DATABASE_BREAKER)));
	return breaker_of_database(config);
}

/* Its state; one that was never asked is closed. */
static DbOptBreaker
breaker_state(const DbOptNamedBreaker *breaker)
{
	DbOptHandlerState state;
	DbOptBreaker closed = {0};

	return dbopt_handler_copy(MyDatabaseId, breaker->handler_id, &state) ?
		state.breaker : closed;
}

static int
breaker_slot(const DbOptConfig *config, const DbOptNamedBreaker *breaker)
{
	int			slot = dbopt_handler_attach(MyDatabaseId, config->extension,
											breaker->handler_id, breaker->name);

	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not find room for circuit breaker \"%s\"",
						breaker->name),
				 errhint("Increase the configuration parameter \"dbopt.max_handlers\".")));
	return slot;
}

static void
put_breaker(ReturnSetInfo *result, const DbOptNamedBreaker *named)
{
	DbOptBreaker breaker = breaker_state(named);
	Datum		values[10];
	bool		nulls[10] = {0};

	values[0] = CStringGetTextDatum(named->name);
	values[1] = CStringGetTextDatum(dbopt_breaker_state_name(breaker.state));
	values[2] = Int32GetDatum(breaker.consecutive_failures);
	values[3] = Int32GetDatum(named->failure_threshold);
	values[4] = TimestampTzGetDatum(breaker.opened_at);
	nulls[4] = breaker.opened_at == 0;
	values[5] = TimestampTzGetDatum(breaker.retry_at);
	nulls[5] = breaker.retry_at == 0;
	values[6] = Int64GetDatum((int64) breaker.successes);
	values[7] = Int64GetDatum((int64) breaker.failures);
	values[8] = Int64GetDatum((int64) breaker.rejected);
	values[9] = Int64GetDatum((int64) breaker.tripped);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* dbopt_circuit_breakers() -> a row for each */
Datum
dbopt_circuit_breakers(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config;
	DbOptNamedBreaker breaker;
	ListCell   *cell;

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	config = dbopt_config_get();

	breaker = breaker_of_database(config);
	put_breaker((ReturnSetInfo *) fcinfo->resultinfo, &breaker);
	foreach(cell, config->handlers)
	{
		breaker = breaker_of_handler(lfirst(cell));
		put_breaker((ReturnSetInfo *) fcinfo->resultinfo, &breaker);
	}
	return (Datum) 0;
}

/* dbopt_circuit_breaker_state(name text) -> text */
Datum
dbopt_circuit_breaker_state(PG_FUNCTION_ARGS)
{
	DbOptNamedBreaker breaker;

	dbopt_require_preload();
	breaker = breaker_named(dbopt_config_get(),
							text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_TEXT_P(cstring_to_text(dbopt_breaker_state_name(breaker_state(&breaker).state)));
}

/* One that has no slot has nothing to reset. */
static void
reset_breaker(const DbOptNamedBreaker *breaker)
{
	dbopt_circuit_reset(dbopt_handler_find(MyDatabaseId,
										   breaker->handler_id));
}

/* dbopt_reset_circuit_breaker(name text) -> int */
Datum
dbopt_reset_circuit_breaker(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config;
	DbOptNamedBreaker breaker;
	ListCell   *cell;

	dbopt_require_preload();
	dbopt_require_primary(fcinfo);
	config = dbopt_config_get();
	if (!PG_ARGISNULL(0))
	{
		breaker = breaker_named(config,
								text_to_cstring(PG_GETARG_TEXT_PP(0)));
		reset_breaker(&breaker);
		PG_RETURN_INT32(1);
	}

	breaker = breaker_of_database(config);
	reset_breaker(&breaker);
	foreach(cell, config->handlers)
	{
		breaker = breaker_of_handler(lfirst(cell));
		reset_breaker(&breaker);
	}
	PG_RETURN_INT32(1 + list_length(config->handlers));
}

/* dbopt_trip_circuit_breaker(name text) -> void */
Datum
dbopt_trip_circuit_breaker(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config;
	DbOptNamedBreaker breaker;

	dbopt_require_preload();
	dbopt_require_primary(fcinfo);
	dbopt_argument_require(fcinfo, 0, "name",
						   "dbopt_circuit_breakers() lists the circuit breakers.");
	config = dbopt_config_get();
	breaker = breaker_named(config, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	dbopt_circuit_trip(breaker_slot(config, &breaker));
	PG_RETURN_VOID();
}
