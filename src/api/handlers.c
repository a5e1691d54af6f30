/*
 * handlers.c
 *		Registered handlers by name: removing, pausing, resuming.
 *
 * Run by backends.  Whoever manages a handler is a member of its role, or owns
 * the events table; the rows are written as the extension's owner.  Changes of
 * who is registered exclude each other by a lock on the table of handlers.
 */
#include "postgres.h"

#include "api/arguments.h"
#include "api/forget.h"
#include "api/handlers.h"
#include "api/primary.h"
#include "catalog/pg_type_d.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/own_locks.h"
#include "engine/owner_spi.h"
#include "engine/source_state.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/news.h"
#include "state/pool.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(dbopt_unregister_handler);
PG_FUNCTION_INFO_V1(dbopt_pause_handler);
PG_FUNCTION_INFO_V1(dbopt_resume_handler);

char *
dbopt_handler_name_arg(FunctionCallInfo fcinfo, int number)
{
	dbopt_argument_require(fcinfo, number, "the name of the handler",
						   "The view dbopt_handlers lists the handlers.");
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

void
dbopt_handlers_lock(void)
{
	DbOptOwnerScope scope;

	dbopt_owner_begin(&scope);
	dbopt_owner_execute(dbopt_sql("LOCK TABLE @extschema@.dbopt_handler"
								  " IN SHARE ROW EXCLUSIVE MODE"), NULL);
	dbopt_owner_end(&scope);
}

bool
dbopt_handler_row_find(const char *name, DbOptHandlerRow *row)
{
	MemoryContext caller = CurrentMemoryContext;
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	bool		found;
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind_text(&args, name);
	found = dbopt_owner_execute(dbopt_sql("SELECT h.handler_id, h.source_id, h.role_oid, s.events_oid,"
										  " s.mark_processed, h.ordered, h.event_type"
										  " FROM @extschema@.dbopt_handler h"
										  " JOIN @extschema@.dbopt_source s USING (source_id)"
										  " WHERE h.name = $1"), &args) > 0;
	if (found)
	{
		row->handler_id = DatumGetInt32(dbopt_owner_value(0, 1, &isnull));
		row->source_id = DatumGetInt32(dbopt_owner_value(0, 2, &isnull));
		row->role = DatumGetObjectId(dbopt_owner_value(0, 3, &isnull));
		row->events = DatumGetObjectId(dbopt_owner_value(0, 4, &isnull));
		row->mark_processed = DatumGetBool(dbopt_owner_value(0, 5, &isnull));
		row->ordered = DatumGetBool(dbopt_owner_value(0, 6, &isnull));
		row->event_type = MemoryContextStrdup(caller, dbopt_owner_text(0, 7));
	}
	dbopt_owner_end(&scope);

	/* Those of a restored database are somebody else's. */
	if (dbopt_config_get()->foreign_identity)
		row->role = row->events = InvalidOid;
	return found;
}

void
dbopt_handler_check_manager(const char *name, const DbOptHandlerRow *row)
{
	Oid			user = GetUserId();

	if (dbopt_can_set_role(user, row->role) ||
		(get_rel_name(row->events) != NULL &&
		 dbopt_owns_class(row->events, user)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for handler \"%s\"", name),
			 errhint("Members of the role it runs as, and the owner of its events table, may change it.")));
}

void
dbopt_handler_row_get(const char *name, DbOptHandlerRow *row)
{
	if (!dbopt_handler_row_find(name, row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("handler \"%s\" does not exist", name),
				 errhint("The view dbopt_handlers lists the handlers.")));
	dbopt_handler_check_manager(name, row);
}

void
dbopt_handler_stop(const char *name, int32 handler_id, const char *action)
{
	if (dbopt_my_session != NULL &&
		dbopt_my_session->job.handler_id == handler_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("handler \"%s\" cannot %s", name, action),
				 errhint("It can use dbopt_pause_handler().")));
	(void) dbopt_handler_lock(handler_id, ExclusiveLock, true);
}

/* Refused when something would be given up that nobody asked to give up. */
static void
check_nothing_pending(const char *name, int32 handler_id)
{
	int64		pending = dbopt_handler_pending(handler_id);

	if (pending > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("handler \"%s\" has undelivered events", name),
				 errdetail("Retries waiting, dead letters and chunks of events in flight: " INT64_FORMAT ".",
						   pending),
				 errhint("Have them delivered, or give them up with discard => true.")));
}

static void
unregister(const char *name, bool discard)
{
	DbOptHandlerRow row;
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	dbopt_handlers_lock();
	dbopt_handler_row_get(name, &row);
	dbopt_handler_stop(name, row.handler_id, "remove itself");

	dbopt_owner_begin(&scope);
	dbopt_handler_cursors_lock(row.handler_id);
	if (!discard)
		check_nothing_pending(name, row.handler_id);
	dbopt_handler_forget(row.handler_id);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(row.handler_id));
	dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_handler"
								  " WHERE handler_id = $1"), &args);
	if (get_rel_name(row.events) == NULL)
		dbopt_source_refresh(row.source_id);
	dbopt_owner_end(&scope);
}

/*
 * dbopt_unregister_handler(name text, discard boolean) RETURNS void
 */
Datum
dbopt_unregister_handler(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	unregister(dbopt_handler_name_arg(fcinfo, 0),
			   !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	dbopt_config_changed();
	dbopt_news_note_config();
	PG_RETURN_VOID();
}

/* A handler that was found to be broken is tried again when it is resumed. */
static void
set_paused(const char *name, bool paused)
{
	DbOptHandlerRow row;
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	dbopt_handler_row_get(name, &row);
	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(row.handler_id));
	dbopt_owner_bind(&args, BOOLOID, BoolGetDatum(paused));
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_handler"
								  " SET paused = $2,"
								  " state = CASE WHEN $2 THEN state ELSE 'ready' END,"
								  " reason = CASE WHEN $2 THEN reason END"
								  " WHERE handler_id = $1"), &args);
	dbopt_owner_end(&scope);
	dbopt_config_changed();
	dbopt_news_note_config();
	if (!paused)
		dbopt_news_note_many();
}

/*
 * dbopt_pause_handler(name text) RETURNS void
 */
Datum
dbopt_pause_handler(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	set_paused(dbopt_handler_name_arg(fcinfo, 0), true);
	PG_RETURN_VOID();
}

/*
 * dbopt_resume_handler(name text) RETURNS void
 */
Datum
dbopt_resume_handler(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	set_paused(dbopt_handler_name_arg(fcinfo, 0), false);
	PG_RETURN_VOID();
}
