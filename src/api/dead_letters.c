/*
 * dead_letters.c
 *		Deliver given-up events again, or forget them: SQL functions.
 *
 * Run by members of a handler's role and by the owner of its events table.
 * Registration and removal of handlers wait meanwhile, so that no retry is
 * left behind for a handler that is gone.
 */
#include "postgres.h"

#include "api/handler_rights.h"
#include "api/handlers.h"
#include "api/primary.h"
#include "catalog/pg_type.h"
#include "engine/catalog.h"
#include "engine/owner_spi.h"
#include "state/news.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dbopt_replay_dead_letters);
PG_FUNCTION_INFO_V1(dbopt_discard_dead_letters);

/* The handlers meant: the one named, or all that the caller may change. */
static Datum
handlers_meant(FunctionCallInfo fcinfo)
{
	List	   *handlers;
	ListCell   *cell;
	Datum	   *ids;
	int			count = 0;

	if (!PG_ARGISNULL(0))
	{
		DbOptHandlerRow row;
		Datum		id;

		dbopt_handler_row_get(text_to_cstring(PG_GETARG_TEXT_PP(0)), &row);
		id = Int32GetDatum(row.handler_id);
		return PointerGetDatum(construct_array(&id, 1, INT4OID, sizeof(int32),
											   true, TYPALIGN_INT));
	}

	handlers = dbopt_config_get()->handlers;
	ids = palloc(sizeof(Datum) * Max(list_length(handlers), 1));
	foreach(cell, handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (dbopt_handler_is_managed(handler))
			ids[count++] = Int32GetDatum(handler->handler_id);
	}
	return PointerGetDatum(construct_array(ids, count, INT4OID, sizeof(int32),
										   true, TYPALIGN_INT));
}

/* Runs a statement about the dead letters meant; how many there were. */
static int64
for_dead_letters(FunctionCallInfo fcinfo, const char *statement)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	int64		count;

	dbopt_require_primary(fcinfo);
	dbopt_handlers_lock();
	dbopt_owner_bind(&args, INT4ARRAYOID, handlers_meant(fcinfo));
	dbopt_owner_bind_text(&args, PG_ARGISNULL(1) ? NULL :
						  text_to_cstring(PG_GETARG_TEXT_PP(1)));

	dbopt_owner_begin(&scope);
	count = (int64) dbopt_owner_execute(dbopt_sql(statement), &args);
	dbopt_owner_end(&scope);
	return count;
}

/*
 * dbopt_replay_dead_letters(handler text, event_id text) RETURNS bigint
 *
 * They are retries again, due now, with all their attempts before them.  What
 * has crashed the server is tried with nothing else beside it.
 */
Datum
dbopt_replay_dead_letters(PG_FUNCTION_ARGS)
{
	int64		count =
	for_dead_letters(fcinfo,
					 "WITH dead AS ("
					 " DELETE FROM @extschema@.dbopt_dead_letter"
					 " WHERE handler_id = ANY ($1) AND ($2 IS NULL OR event_key = $2)"
					 " RETURNING *) "
					 "INSERT INTO @extschema@.dbopt_retry_queue AS queue"
					 " (handler_id, log_position, event_key, event_type, attempts,"
					 " next_retry_at, first_failed_at, failed_at, error_code, error_message, suspicion) "
					 "SELECT handler_id, log_position, event_key, event_type, 0,"
					 " pg_catalog.now(), first_failed_at, failed_at, error_code, error_message,"
					 " CASE WHEN error_code = '57P02' THEN 3 ELSE 0 END"
					 " FROM dead "
					 "ON CONFLICT (handler_id, log_position, event_key) DO UPDATE"
					 " SET attempts = 0, next_retry_at = excluded.next_retry_at");

	if (count > 0)
		dbopt_news_note_config();
	PG_RETURN_INT64(count);
}

/* dbopt_discard_dead_letters(handler text, event_id text) RETURNS bigint */
Datum
dbopt_discard_dead_letters(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(for_dead_letters(fcinfo,
									 "DELETE FROM @extschema@.dbopt_dead_letter"
									 " WHERE handler_id = ANY ($1)"
									 " AND ($2 IS NULL OR event_key = $2)"));
}
