/*
 * replay.c
 *		dbopt_replay(): deliver again from a moment on.
 *
 * Run by backends.  Holds ACCESS SHARE on the events table and the locks of
 * the handler and its cursors until the transaction ends, so that nothing is
 * handed out meanwhile.  Everything at or behind the first event of that moment
 * is delivered anew, so that what waited for a retry or was given up there is
 * forgotten.
 */
#include "postgres.h"

#include "api/arguments.h"
#include "api/attach.h"
#include "api/forget.h"
#include "api/handlers.h"
#include "api/primary.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/news.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_replay);

/* The column that tells when an event came. */
static const char *
time_column(Oid events)
{
	static const char *const names[] = {"created_at", "event_timestamp"};

	for (int i = 0; i < lengthof(names); i++)
	{
		AttrNumber	column = get_attnum(events, names[i]);

		if (column > 0 && (get_atttype(events, column) == TIMESTAMPTZOID ||
						   get_atttype(events, column) == TIMESTAMPOID))
			return names[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s\" does not tell when its events came",
					get_rel_name(events)),
			 errhint("Replay needs a column created_at or event_timestamp.")));
	return NULL;				/* keep the compiler quiet */
}

/*
 * The lowest position of the handler's events since then; -1: there is none.
 * Planning a query runs the immutable functions of the table's indexes, hence
 * as its owner, as in mark.c, and not as ours.
 */
static int64
find_bound(Relation events, const char *pattern, TimestampTz since)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	int			length = strlen(pattern);
	bool		prefix = pattern[length - 1] == '*';
	char	   *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(events)),
												   RelationGetRelationName(events));
	bool		isnull;
	int64		bound;

	dbopt_owner_bind(&args, TIMESTAMPTZOID, TimestampTzGetDatum(since));
	dbopt_owner_bind_text(&args, prefix ? pnstrdup(pattern, length - 1) :
						  pattern);
	dbopt_owner_begin_as(&scope, events->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	dbopt_owner_execute(psprintf("SELECT min(log_position) FROM %s"
								 " WHERE %s >= $1 AND %s", table,
								 time_column(RelationGetRelid(events)),
								 prefix ?
								 "starts_with(event_type::text, $2)" :
								 "event_type::text COLLATE \"C\" = $2"),
						&args);
	bound = DatumGetInt64(dbopt_owner_value(0, 1, &isnull));
	dbopt_owner_end(&scope);
	return isnull ? -1 : bound;
}

static void
check_nothing_in_flight(const char *name, int32 handler_id)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(handler_id));
	if (dbopt_owner_execute(dbopt_sql("SELECT FROM @extschema@.dbopt_chunk"
									  " JOIN @extschema@.dbopt_cursor USING (cursor_id)"
									  " WHERE handler_id = $1 LIMIT 1"),
							&args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("handler \"%s\" has events in flight", name),
				 errhint("Use dbopt_pause_handler() and dbopt_drain() first.")));
}

static bool
is_hole(const DbOptVersion *version, int64 position)
{
	for (int i = 0; i < version->nholes; i++)
		if (version->holes[i] == position)
			return true;
	return false;
}

/* Events from the bound on that the cursor has passed. */
static int64
count_passed(DbOptLog *log, Snapshot snapshot, const DbOptVersion *version,
			 const char *event_type, int64 bound)
{
	DbOptPlace	from = {bound - 1, true, (Datum) 0};
	DbOptLogScan *scan = dbopt_log_scan_begin(log, snapshot, event_type, &from,
											  &version->last, DBOPT_LOG_KEYS);
	DbOptLogEvent event;
	int64		count = 0;

	while (dbopt_log_scan_next(scan, &event))
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_hole(version, event.position))
			count++;
	}
	dbopt_log_scan_end(scan);
	return count;
}

/* Takes a cursor back to the bound; returns how many events that repeats. */
static int64
rewind_cursor(DbOptLog *log, int32 cursor_id, int64 bound)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	DbOptCursor *cursor = dbopt_cursor_load(cursor_id);
	DbOptVersion version;
	DbOptVersion next;
	int64		count = 0;

	if (cursor != NULL &&
		dbopt_version_read(log, cursor_id, snapshot, &version) &&
		version.last.position >= bound)
	{
		count = count_passed(log, snapshot, &version, cursor->event_type,
							 bound);
		next = version;
		next.seq++;
		next.last.position = bound - 1;
		next.last.whole = true;
		while (next.nholes > 0 && next.holes[next.nholes - 1] >= bound)
			next.nholes--;
		if (next.has_partial && next.partial.position >= bound)
			next.has_partial = false;
		dbopt_version_replace(log, &version, &next);
	}
	UnregisterSnapshot(snapshot);
	return count;
}

/* Types that the handler meets later start there, too. */
static void
rewind_handler(int32 handler_id, int64 bound)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(handler_id));
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(bound));
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_handler"
								  " SET start_position = $2 - 1,"
								  " start_holes = ARRAY(SELECT hole FROM unnest(start_holes) AS hole"
								  " WHERE hole < $2 ORDER BY hole)"
								  " WHERE handler_id = $1 AND start_position >= $2"),
						&args);
	dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_retry_queue"
								  " WHERE handler_id = $1 AND log_position >= $2"),
						&args);
	dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_ordered"
								  " WHERE handler_id = $1 AND log_position >= $2"),
						&args);
	dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_dead_letter"
								  " WHERE handler_id = $1 AND log_position >= $2"),
						&args);

	/* What held these back may be among those that were forgotten. */
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_retry_queue"
								  " SET next_retry_at = pg_catalog.now()"
								  " WHERE handler_id = $1 AND next_retry_at = 'infinity'"
								  " AND $2 IS NOT NULL"),
						&args);
}

static int64
replay(const char *name, TimestampTz since)
{
	DbOptHandlerRow row;
	DbOptOwnerScope scope;
	DbOptLog   *log;
	List	   *cursors;
	ListCell   *cell;
	int64		bound;
	int64		count = 0;

	dbopt_handler_row_get(name, &row);
	dbopt_require_identity();
	if (row.mark_processed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the events of handler \"%s\" are marked as processed",
						name),
				 errhint("Set processed to false for the events to deliver again.")));
	log = dbopt_log_open(row.events);
	dbopt_owner_begin(&scope);
	check_nothing_in_flight(name, row.handler_id);
	dbopt_handler_stop(name, row.handler_id, "replay itself");
	cursors = dbopt_handler_cursors_lock(row.handler_id);
	check_nothing_in_flight(name, row.handler_id);
	bound = find_bound(log->root, row.event_type, since);
	if (bound >= 0)
	{
		foreach(cell, cursors)
			count += rewind_cursor(log, lfirst_int(cell), bound);
		rewind_handler(row.handler_id, bound);
	}
	dbopt_owner_end(&scope);
	dbopt_log_close(log);
	return count;
}

/*
 * dbopt_replay(handler text, since timestamptz) RETURNS bigint
 */
Datum
dbopt_replay(PG_FUNCTION_ARGS)
{
	char	   *name;
	int64		count;

	dbopt_require_primary(fcinfo);
	name = dbopt_handler_name_arg(fcinfo, 0);
	dbopt_argument_require(fcinfo, 1, "since",
						   "Give the time from which on events are to be delivered again.");
	count = replay(name, PG_GETARG_TIMESTAMPTZ(1));
	dbopt_config_changed();
	dbopt_news_note_config();
	dbopt_news_note_many();
	PG_RETURN_INT64(count);
}
