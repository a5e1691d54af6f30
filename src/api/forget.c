/*
 * forget.c
 *		Removing what the engine keeps for a source or a handler; TRUNCATE.
 *
 * Run by backends.  A handler's cursors are locked as a hand-out locks them.
 * A chunk's row is locked while it runs, so that deleting it waits for the
 * chunk's end.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/forget.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "state/news.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(dbopt_truncated);

/* Runs a statement with one integer parameter. */
static uint64
execute_for(const char *statement, int32 id)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(id));
	return dbopt_owner_execute(dbopt_sql(statement), &args);
}

void
dbopt_require_read_committed(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot change a handler's place in the log in a transaction of this isolation level"),
				 errhint("Use READ COMMITTED.")));
}

List *
dbopt_handler_cursors_lock(int32 handler_id)
{
	int			count;
	List	   *cursors = NIL;
	ListCell   *cell;
	bool		isnull;

	dbopt_require_read_committed();
	count = execute_for("SELECT cursor_id FROM @extschema@.dbopt_cursor"
						" WHERE handler_id = $1 ORDER BY cursor_id",
						handler_id);
	for (int i = 0; i < count; i++)
		cursors = lappend_int(cursors,
							  DatumGetInt32(dbopt_owner_value(i, 1, &isnull)));
	foreach(cell, cursors)
		dbopt_cursor_lock(lfirst_int(cell));
	return cursors;
}

int64
dbopt_handler_pending(int32 handler_id)
{
	execute_for("SELECT (SELECT count(*) FROM @extschema@.dbopt_retry_queue"
				" WHERE handler_id = $1)"
				" + (SELECT count(*) FROM @extschema@.dbopt_dead_letter"
				" WHERE handler_id = $1)"
				" + (SELECT count(*) FROM @extschema@.dbopt_chunk"
				" JOIN @extschema@.dbopt_cursor USING (cursor_id)"
				" WHERE handler_id = $1)", handler_id);
	return dbopt_owner_int64(0, 1);
}

void
dbopt_handler_forget(int32 handler_id)
{
	execute_for("DELETE FROM @extschema@.dbopt_chunk WHERE cursor_id IN"
				" (SELECT cursor_id FROM @extschema@.dbopt_cursor"
				" WHERE handler_id = $1)", handler_id);
	execute_for("DELETE FROM @extschema@.dbopt_cursor_version WHERE cursor_id IN"
				" (SELECT cursor_id FROM @extschema@.dbopt_cursor"
				" WHERE handler_id = $1)", handler_id);
	execute_for("DELETE FROM @extschema@.dbopt_cursor WHERE handler_id = $1",
				handler_id);
	execute_for("DELETE FROM @extschema@.dbopt_retry_queue"
				" WHERE handler_id = $1", handler_id);
	execute_for("DELETE FROM @extschema@.dbopt_ordered WHERE handler_id = $1",
				handler_id);
	execute_for("DELETE FROM @extschema@.dbopt_dead_letter"
				" WHERE handler_id = $1", handler_id);
}

void
dbopt_source_forget_events(int32 source_id)
{
	execute_for("DELETE FROM @extschema@.dbopt_chunk WHERE cursor_id IN"
				" (SELECT cursor_id FROM @extschema@.dbopt_cursor"
				" WHERE source_id = $1)", source_id);
	execute_for("DELETE FROM @extschema@.dbopt_retry_queue WHERE handler_id IN"
				" (SELECT handler_id FROM @extschema@.dbopt_handler"
				" WHERE source_id = $1)", source_id);
	execute_for("DELETE FROM @extschema@.dbopt_ordered WHERE handler_id IN"
				" (SELECT handler_id FROM @extschema@.dbopt_handler"
				" WHERE source_id = $1)", source_id);
	execute_for("DELETE FROM @extschema@.dbopt_dead_letter WHERE handler_id IN"
				" (SELECT handler_id FROM @extschema@.dbopt_handler"
				" WHERE source_id = $1)", source_id);
}

void
dbopt_source_forget(int32 source_id)
{
	execute_for("DELETE FROM @extschema@.dbopt_chunk WHERE cursor_id IN"
				" (SELECT cursor_id FROM @extschema@.dbopt_cursor"
				" WHERE source_id = $1)", source_id);
	execute_for("DELETE FROM @extschema@.dbopt_cursor_version WHERE cursor_id IN"
				" (SELECT cursor_id FROM @extschema@.dbopt_cursor"
				" WHERE source_id = $1)", source_id);
	execute_for("DELETE FROM @extschema@.dbopt_cursor WHERE source_id = $1",
				source_id);
	execute_for("DELETE FROM @extschema@.dbopt_source WHERE source_id = $1",
				source_id);
}

/*
 * Trigger function, AFTER TRUNCATE of an attached table: its events are gone,
 * and so is what waited for being tried again.  The table itself says which
 * source it is, so that a trigger on somebody else's table changes nothing.
 */
Datum
dbopt_truncated(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	DbOptOwnerScope scope;
	DbOptSource *source;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dbopt_truncated() was not called by a trigger on TRUNCATE")));
	source = dbopt_config_source_of(dbopt_config_look(),
									RelationGetRelid(data->tg_relation));
	if (source != NULL)
	{
		dbopt_owner_begin(&scope);
		dbopt_source_forget_events(source->source_id);
		dbopt_owner_end(&scope);
		dbopt_news_note_config();
	}
	return PointerGetDatum(NULL);
}
