/*
 * named_handler.c
 *		Handlers as SQL functions are given them.
 *
 * Run by the caller of an SQL function, before it becomes anybody else.
 */
#include "postgres.h"

#include "api/named_handler.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"

DbOptHandler *
dbopt_handler_named(const DbOptConfig *config, const char *name)
{
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (strcmp(handler->name, name) == 0)
			return handler;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("handler \"%s\" does not exist", name),
			 errhint("The view dbopt_handlers lists the handlers.")));
	return NULL;
}

bool
dbopt_handler_is_callers(const DbOptHandler *handler)
{
	return has_privs_of_role(GetUserId(), handler->role);
}

void
dbopt_handler_require_rights(const DbOptHandler *handler)
{
	if (!dbopt_handler_is_callers(handler))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for handler \"%s\"", handler->name),
				 errhint("Only superusers and members of the handler's role may do this.")));
}

bool
dbopt_handler_shows_errors(const DbOptHandler *handler)
{
	return dbopt_handler_is_callers(handler) ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}
