/*
 * handler_state.c
 *		Are a handler's function and role still there, and what are they
 *		called?
 *
 * Run by the scheduler when the configuration has changed, and by
 * dbopt_resume().  In its own database a handler's function and role are their
 * OIDs; the names are what a restored dump goes by, so that they follow every
 * rename.  A dropped one is never replaced by another of the same name.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/handler_state.h"
#include "engine/owner_spi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

/* A row of dbopt_handler. */
typedef struct HandlerRow
{
	int32		handler_id;
	Oid			function;
	Oid			role;
	char	   *function_schema;
	char	   *function_name;
	char	   *role_name;
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
													 " function_schema, function_name, role_name"
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
		handlers = lappend(handlers, handler);
	}
	return handlers;
}

/* Writes what differs; the reason is given when something is missing. */
static bool
store_handler(const HandlerRow *new, const char *reason)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(new->handler_id));
	dbopt_owner_bind_text(&args, new->function_schema);
	dbopt_owner_bind_text(&args, new->function_name);
	dbopt_owner_bind_text(&args, new->role_name);
	dbopt_owner_bind_text(&args, reason);
	return dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_handler"
										 " SET function_schema = $2, function_name = $3, role_name = $4,"
										 " state = CASE WHEN $5 IS NULL THEN state ELSE 'broken' END,"
										 " reason = coalesce($5, reason)"
										 " WHERE handler_id = $1"
										 " AND ((function_schema, function_name, role_name)"
										 " <> ($2, $3, $4)"
										 " OR (reason, state) IS DISTINCT FROM"
										 " (coalesce($5, reason), CASE WHEN $5 IS NULL THEN state ELSE 'broken' END))"),
							   &args) > 0;
}

static bool
refresh_handler(HandlerRow *handler)
{
	char	   *reason = NULL;
	char	   *role = GetUserNameFromId(handler->role, true);

	if (get_func_name(handler->function) == NULL)
		reason = psprintf("the function %s.%s is missing: register the handler with replace => true",
						  quote_identifier(handler->function_schema),
						  handler->function_name);
	else
	{
		handler->function_schema =
			get_namespace_name(get_func_namespace(handler->function));
		handler->function_name = dbopt_function_signature(handler->function);
	}
	if (role == NULL)
		reason = psprintf("the role \"%s\" is missing: register the handler with replace => true",
						  handler->role_name);
	else
		handler->role_name = role;
	return store_handler(handler, reason);
}

bool
dbopt_handlers_refresh(void)
{
	bool		changed = false;
	ListCell   *cell;

	foreach(cell, load_handlers())
	{
		if (refresh_handler(lfirst(cell)))
			changed = true;
	}
	return changed;
}
