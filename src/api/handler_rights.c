/*
 * handler_rights.c
 *		What a caller may see and change of which handler.
 *
 * Run by the caller of an SQL function, before it becomes anybody else.
 */
#include "postgres.h"

#include "api/handler_rights.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

bool
dbopt_handler_shows_errors(const DbOptHandler *handler)
{
	return has_privs_of_role(GetUserId(), handler->role) ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

bool
dbopt_handler_is_managed(const DbOptHandler *handler)
{
	Oid			events = handler->source->relid;

	return dbopt_can_set_role(GetUserId(), handler->role) ||
		(get_rel_name(events) != NULL &&
		 dbopt_owns_class(events, GetUserId()));
}
