/*
 * handler_check.c
 *		May this function handle events of this table, as this role?
 *
 * Run by backends that register a handler.  The engine checks the rights that
 * can be lost again before each chunk; here they are checked for a clear
 * answer at once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/handlers.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/* Kinds of routines that are not called with one event. */
static void
check_kind(Form_pg_proc function)
{
	const char *unfit = NULL;

	if (function->prokind == PROKIND_PROCEDURE)
		unfit = "a procedure";
	else if (function->prokind == PROKIND_AGGREGATE)
		unfit = "an aggregate function";
	else if (function->prokind == PROKIND_WINDOW)
		unfit = "a window function";
	else if (function->proretset)
		unfit = "a set-returning function";
	else if (isAnyTempNamespace(function->pronamespace))
		unfit = "a temporary function";
	if (unfit != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is %s", format_procedure(function->oid), unfit),
				 errhint("A handler is an ordinary function; its result is ignored.")));
}

/* NULL: the function does not take events of the table. */
static const char *
argument_kind(Form_pg_proc function, Oid events)
{
	Oid			row_type = get_rel_type_id(events);
	Oid			argument;

	if (function->pronargs != 1)
		return NULL;
	argument = function->proargtypes.values[0];
	if (argument == row_type)
		return "row";
	if (argument == get_array_type(row_type))
		return "array";
	if (argument == JSONBOID)
		return "jsonb";
	return NULL;
}

const char *
dbopt_handler_check_function(Oid function, Oid events)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	const char *kind;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	check_kind((Form_pg_proc) GETSTRUCT(tuple));
	kind = argument_kind((Form_pg_proc) GETSTRUCT(tuple), events);
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s does not take events of table \"%s\"",
						format_procedure(function), get_rel_name(events)),
				 errhint("A handler takes one argument: %1$s (a row of the table), %1$s[] (a batch of rows), or jsonb (the row as JSON).",
						 format_type_be(get_rel_type_id(events)))));
	ReleaseSysCache(tuple);
	return kind;
}

static Oid
function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

static bool
role_can_login(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can_login;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
	can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	return can_login;
}

/* The session that runs the handler logs in as the role. */
static void
check_login(Oid role)
{
	bool		can_login = role_can_login(role);
	char	   *name = GetUserNameFromId(role, false);

	if (!dbopt_can_set_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be able to SET ROLE \"%s\"", name),
				 errhint("A handler can run as a role that you are a member of.")));
	if (DBOPT_ROLE_NEEDS_LOGIN && !can_login)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" is not permitted to log in", name),
				 errdetail("Before PostgreSQL 17 background sessions need it."),
				 errhint("Run ALTER ROLE %s LOGIN; it needs no password.",
						 quote_identifier(name))));
	if (dbopt_database_aclcheck(MyDatabaseId, role,
								ACL_CONNECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not connect to this database", name),
				 errhint("Run GRANT CONNECT ON DATABASE ... TO %s.",
						 quote_identifier(name))));
}

static void
check_execute(Oid function, Oid role)
{
	Oid			roles[] = {GetUserId(), role};
	Oid			owner = function_owner(function);

	for (int i = 0; i < lengthof(roles); i++)
		if (dbopt_function_aclcheck(function, roles[i]) != ACLCHECK_OK)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for function %s",
							format_procedure(function)),
					 errdetail("Role \"%s\" may not execute it.",
							   GetUserNameFromId(roles[i], false)),
					 errhint("Run GRANT EXECUTE ON FUNCTION %s TO %s.",
							 format_procedure(function),
							 quote_identifier(GetUserNameFromId(roles[i], false)))));
	if (superuser_arg(role) && !superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("function %s cannot run as superuser \"%s\"",
						format_procedure(function),
						GetUserNameFromId(role, false)),
				 errdetail("Its owner \"%s\" is no superuser, and could make it do anything.",
						   GetUserNameFromId(owner, false)),
				 errhint("Name another role with run_as.")));
}

/* Nobody gets events from dbopt that they could not read themselves. */
static void
check_table(const DbOptHandlerTarget *target)
{
	AclMode		needed = ACL_SELECT | (target->mark_processed ? ACL_UPDATE : 0);
	char	   *table = get_rel_name(target->events);
	char	   *role = GetUserNameFromId(target->role, false);

	if (pg_class_aclmask(target->events, target->role, needed,
						 ACLMASK_ALL) != needed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table \"%s\"", table),
				 errdetail("Role \"%s\" needs %s on it.", role,
						   target->mark_processed ?
						   "SELECT and UPDATE" : "SELECT"),
				 errhint("Run GRANT %s ON %s TO %s.",
						 target->mark_processed ? "SELECT, UPDATE" : "SELECT",
						 format_type_be(get_rel_type_id(target->events)),
						 quote_identifier(role))));
	if (check_enable_rls(target->events, target->role, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row level security of table \"%s\" applies to role \"%s\"",
						table, role),
				 errdetail("A handler gets every event of its type, also those that the policies hide."),
				 errhint("Name with run_as the table's owner, or a role with BYPASSRLS.")));
}

void
dbopt_handler_check_rights(const DbOptHandlerTarget *target)
{
	check_login(target->role);
	check_execute(target->function, target->role);
	check_table(target);
}
