/*
 * handler_state.c
 *		Are a handler's function and role still there, may the role log in,
 *		and what are they called?
 *
 * Run by the scheduler when the configuration has changed, and by
 * dbopt_resume().  In its own database a handler's function and role are their
 * OIDs; the names are what a restored dump goes by, so that they follow every
 * rename.  A dropped one is never replaced by another of the same name: its OID
 * is InvalidOid from then on, so that a restore does not look for it either.
 *
 * A role that cannot log in has no session that could find that out, so it is
 * found out here.  The rights that a handler needs beside that are checked by
 * the session, before it calls the handler (call.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type_d.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/handler_state.h"
#include "engine/owner_spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

/* A row of dbopt_handler. */
typedef struct HandlerRow
{
	int32		handler_id;
	Oid			function;
	Oid			role;
	char	   *function_schema;
	char	   *function_name;
	char	   *role_name;
	char	   *state;
	char	   *reason;			/* NULL: none */
} HandlerRow;

char *
dbopt_function_signature(Oid function)
{
	char	   *schema = get_namespace_name(get_func_namespace(function));

	return format_procedure_qualified(function) +
		strlen(quote_identifier(schema)) + strlen(".");
}

static List *
load_handlers(void)
{
	uint64		rows = dbopt_owner_execute(dbopt_sql("SELECT handler_id, function_oid, role_oid,"
													 " function_schema, function_name, role_name, state, reason"
													 " FROM @extschema@.dbopt_handler"
													 " ORDER BY handler_id"),
										   NULL);
	List	   *handlers = NIL;

	for (uint64 row = 0; row < rows; row++)
	{
		HandlerRow *handler = palloc(sizeof(HandlerRow));
		bool		isnull;

		handler->handler_id = DatumGetInt32(dbopt_owner_value(row, 1, &isnull));
		handler->function = DatumGetObjectId(dbopt_owner_value(row, 2, &isnull));
		handler->role = DatumGetObjectId(dbopt_owner_value(row, 3, &isnull));
		handler->function_schema = dbopt_owner_text(row, 4);
		handler->function_name = dbopt_owner_text(row, 5);
		handler->role_name = dbopt_owner_text(row, 6);
		handler->state = dbopt_owner_text(row, 7);
		handler->reason = dbopt_owner_text(row, 8);
		handlers = lappend(handlers, handler);
	}
	return handlers;
}

#define STORE_HANDLER(patience) \
	"UPDATE @extschema@.dbopt_handler" \
	" SET function_schema = $2, function_name = $3, role_name = $4," \
	" state = $5, reason = $6, function_oid = $7, role_oid = $8" \
	" WHERE handler_id = (SELECT handler_id FROM @extschema@.dbopt_handler" \
	" WHERE handler_id = $1 AND function_oid = $9 AND role_oid = $10" \
	" FOR NO KEY UPDATE " patience ")"

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static bool
same_row(const HandlerRow *a, const HandlerRow *b)
{
	return a->function == b->function && a->role == b->role &&
		same_text(a->state, b->state) && same_text(a->reason, b->reason) &&
		same_text(a->function_schema, b->function_schema) &&
		same_text(a->function_name, b->function_name) &&
		same_text(a->role_name, b->role_name);
}

/* Writes the row, unless somebody else is about to change it, or has. */
static void
store_handler(const HandlerRow *old, const HandlerRow *handler,
			  DbOptLook *look)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(handler->handler_id));
	dbopt_owner_bind_text(&args, handler->function_schema);
	dbopt_owner_bind_text(&args, handler->function_name);
	dbopt_owner_bind_text(&args, handler->role_name);
	dbopt_owner_bind_text(&args, handler->state);
	dbopt_owner_bind_text(&args, handler->reason);
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(handler->function));
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(handler->role));
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(old->function));
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(old->role));
	if (dbopt_owner_execute(dbopt_sql(look->waits ?
									  STORE_HANDLER("") :
									  STORE_HANDLER("SKIP LOCKED")),
							&args) > 0)
		look->changed = true;
	else
		look->incomplete = true;
}

static void
set_broken(HandlerRow *handler, char *reason)
{
	handler->state = "broken";
	handler->reason = reason;
}

static bool
may_log_in(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can_login = false;

	if (HeapTupleIsValid(tuple))
	{
		can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	return can_login;
}

/* Why no session could be started as this role; NULL: one can. */
static char *
login_problem(Oid role, const char *name)
{
	if (DBOPT_ROLE_NEEDS_LOGIN && !may_log_in(role))
		return psprintf("the role \"%s\" is not permitted to log in any more: ALTER ROLE %s LOGIN, then dbopt_resume_handler()",
						name, quote_identifier(name));
	if (dbopt_database_aclcheck(MyDatabaseId, role,
								ACL_CONNECT) != ACLCHECK_OK)
		return psprintf("the role \"%s\" may not connect to this database any more: GRANT CONNECT ON DATABASE %s TO %s, then dbopt_resume_handler()",
						name,
						quote_identifier(get_database_name(MyDatabaseId)),
						quote_identifier(name));
	return NULL;
}

/* A handler that is broken for another reason keeps that. */
static void
check_login(HandlerRow *handler)
{
	char	   *problem = login_problem(handler->role, handler->role_name);

	if (problem != NULL && strcmp(handler->state, "ready") == 0)
		set_broken(handler, problem);
}

static void
refresh_handler(const HandlerRow *old, DbOptLook *look)
{
	HandlerRow	new = *old;
	char	   *role = GetUserNameFromId(old->role, true);

	if (get_func_name(old->function) == NULL)
	{
		new.function = InvalidOid;
		set_broken(&new,
				   psprintf("the function %s.%s is missing: register the handler with replace => true",
							quote_identifier(old->function_schema),
							old->function_name));
	}
	else
	{
		new.function_schema =
			get_namespace_name(get_func_namespace(old->function));
		new.function_name = dbopt_function_signature(old->function);
	}
	if (role == NULL)
	{
		new.role = InvalidOid;
		set_broken(&new,
				   psprintf("the role \"%s\" is missing: register the handler with replace => true",
							old->role_name));
	}
	else
	{
		new.role_name = role;
		check_login(&new);
	}
	if (!same_row(old, &new))
		store_handler(old, &new, look);
}

void
dbopt_handlers_refresh(DbOptLook *look)
{
	ListCell   *cell;

	foreach(cell, load_handlers())
		refresh_handler(lfirst(cell), look);
}
