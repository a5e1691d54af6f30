/*
 * retry_sql.c
 *		Procedures that run a caller's SQL in transactions of its own session,
 *		and try again.
 *
 * Run by the caller, with the caller's rights and no others.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "api/arguments.h"
#include "api/isolation.h"
#include "engine/sql_retry.h"
#include "engine/sql_statement.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dbopt_with_database_retry);
PG_FUNCTION_INFO_V1(dbopt_with_transaction_retry);

/* May the procedure end the transaction that it was called in? */
static void
require_own_transactions(FunctionCallInfo fcinfo, const char *procedure)
{
	CallContext *context = (CallContext *) fcinfo->context;

	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s cannot run inside a transaction block", procedure),
				 errhint("It begins and ends transactions: CALL it outside of BEGIN and of functions. dbopt_with_transaction() can be called anywhere.")));
}

static char *
statement_argument(FunctionCallInfo fcinfo)
{
	char	   *statement;

	dbopt_argument_require(fcinfo, 0, "statement",
						   "Give the SQL to be run.");
	statement = text_to_cstring(PG_GETARG_TEXT_PP(0));
	(void) dbopt_sql_parse(statement);
	return statement;
}

/* What PostgreSQL says of it names settings that are not in the way here. */
static void
require_possible(int isolation)
{
	if (isolation == XACT_SERIALIZABLE && RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot use serializable mode in a hot standby"),
				 errhint("Give another isolation level: isolation => 'repeatable read'.")));
}

/* dbopt_with_database_retry(statement text) */
Datum
dbopt_with_database_retry(PG_FUNCTION_ARGS)
{
	char	   *statement = statement_argument(fcinfo);

	require_own_transactions(fcinfo, "dbopt_with_database_retry");
	dbopt_sql_retry_run("database", statement, -1);
	PG_RETURN_VOID();
}

/* dbopt_with_transaction_retry(statement text, isolation text) */
Datum
dbopt_with_transaction_retry(PG_FUNCTION_ARGS)
{
	char	   *statement = statement_argument(fcinfo);
	int			isolation = dbopt_isolation_argument(fcinfo, 1);

	require_own_transactions(fcinfo, "dbopt_with_transaction_retry");
	require_possible(isolation);
	dbopt_sql_retry_run("transaction", statement, isolation);
	PG_RETURN_VOID();
}
