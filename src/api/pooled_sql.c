/*
 * pooled_sql.c
 *		Functions that run a caller's SQL in a pool session.
 *
 * Run by the caller.  The session is logged in as GetUserId(), which inside a
 * SECURITY DEFINER function is its owner: the owner has written the call.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "api/arguments.h"
#include "api/isolation.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "engine/exec.h"
#include "engine/pooled.h"
#include "engine/sql_statement.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(dbopt_with_connection);
PG_FUNCTION_INFO_V1(dbopt_with_transaction);
PG_FUNCTION_INFO_V1(dbopt_test_connection);

/* ---- who may ------------------------------------------------------------- */

/*
 * May this role have sessions?  A session that could not log in would be tried
 * again and again.
 */
static void
check_role(DbOptPooledRequest *request)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	Form_pg_authid role;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role %u does not exist", GetUserId())));
	role = (Form_pg_authid) GETSTRUCT(tuple);
	if (DBOPT_ROLE_NEEDS_LOGIN && !role->rolcanlogin)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" cannot have pool sessions because it cannot log in",
						NameStr(role->rolname)),
				 errhint("Use ALTER ROLE ... LOGIN; without a password nobody else can use it.")));
	request->role_limit = role->rolsuper ? -1 : role->rolconnlimit;
	ReleaseSysCache(tuple);
	if (dbopt_database_aclcheck(MyDatabaseId, GetUserId(),
								ACL_CONNECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot have pool sessions because it may not connect to this database",
						GetUserNameFromId(GetUserId(), false)),
				 errhint("Use GRANT CONNECT ON DATABASE ... TO the role.")));
}

static void
check_caller(DbOptPooledRequest *request)
{
	dbopt_require_preload();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are no pool sessions during recovery"),
				 errhint("This server is a standby: call it on the primary.")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot use a pool session during a parallel operation"),
				 errhint("The function that calls it must be PARALLEL UNSAFE.")));
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot use a pool session within a security-restricted operation")));
	check_role(request);
}

/* ---- arguments ----------------------------------------------------------- */

/* The elements of a text array; NULL for null. */
static char **
texts_argument(FunctionCallInfo fcinfo, int number, const char *name,
			   int *count)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	char	  **texts;

	dbopt_argument_require(fcinfo, number, name,
						   "Give an array of texts.");
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("%s must be a one-dimensional array", name)));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  count);
	texts = palloc(Max(*count, 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		texts[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	return texts;
}

static void
statement_argument(FunctionCallInfo fcinfo, DbOptPooledRequest *request)
{
	dbopt_argument_require(fcinfo, 0, "statement",
						   "Give the SQL to be run.");
	request->nstatements = 1;
	request->statements = palloc(sizeof(char *));
	request->statements[0] = text_to_cstring(PG_GETARG_TEXT_PP(0));
}

static void
statements_argument(FunctionCallInfo fcinfo, DbOptPooledRequest *request)
{
	request->statements = texts_argument(fcinfo, 0, "statements",
										 &request->nstatements);
	if (request->nstatements == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no statement"),
				 errhint("Give an array of at least one.")));
	for (int i = 0; i < request->nstatements; i++)
		if (request->statements[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("statements must not contain nulls"),
					 errhint("Leave out what is not to be run.")));
}

/* ---- the functions ------------------------------------------------------- */

static Datum
call_session(FunctionCallInfo fcinfo, const DbOptPooledRequest *request)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	dbopt_pooled_call(request, result->setResult, result->setDesc);
	return (Datum) 0;
}

/* dbopt_with_connection(statement text, params text[]) RETURNS SETOF jsonb */
Datum
dbopt_with_connection(PG_FUNCTION_ARGS)
{
	DbOptPooledRequest request = {.policy = "database",.isolation = -1};

	statement_argument(fcinfo, &request);
	request.params = texts_argument(fcinfo, 1, "params", &request.nparams);
	check_caller(&request);
	return call_session(fcinfo, &request);
}

/*
 * dbopt_with_transaction(statements text[], isolation text)
 * RETURNS SETOF jsonb
 */
Datum
dbopt_with_transaction(PG_FUNCTION_ARGS)
{
	DbOptPooledRequest request = {.policy = "transaction"};

	statements_argument(fcinfo, &request);
	request.isolation = dbopt_isolation_argument(fcinfo, 1);
	check_caller(&request);
	return call_session(fcinfo, &request);
}

/* Has a session of the caller's role answer; "arg" is where the rows go. */
static void
ask_session(void *arg)
{
	DbOptPooledRequest request = {.policy = "database",.isolation = -1};
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	char	   *statement = pstrdup("SELECT 1");

	TupleDescInitEntry(desc, 1, "row", JSONBOID, -1, 0);
	request.nstatements = 1;
	request.statements = &statement;
	check_caller(&request);
	dbopt_pooled_call(&request, (Tuplestorestate *) arg, desc);
}

/*
 * dbopt_test_connection() RETURNS boolean
 *
 * A cancel is for this call, too, and not an answer.
 */
Datum
dbopt_test_connection(PG_FUNCTION_ARGS)
{
	Tuplestorestate *store;
	DbOptFailure failure;

	dbopt_require_preload();
	store = tuplestore_begin_heap(false, false, work_mem);
	if (dbopt_exec_try(ask_session, store, 0, &failure))
	{
		tuplestore_end(store);
		PG_RETURN_BOOL(true);
	}
	if (strcmp(failure.sqlstate, "57014") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("%s", failure.message)));
	ereport(NOTICE,
			(errmsg("no pool session has answered: %s", failure.message)));
	PG_RETURN_BOOL(false);
}
