/*
 * delivered.c
 *		How far the log of a source has been delivered by all handlers.
 *
 * Run by backends that read the view dbopt_sources.  Takes ACCESS SHARE on the
 * events table.  For each handler and event type: the oldest event that the
 * cursor has not passed, its holes, its chunks, and its retries.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/log.h"
#include "engine/owner_spi.h"
#include "engine/position.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dbopt_delivered_before);

/*
 * The lowest of the positions that dbopt has written down; or PG_INT64_MAX.
 * With the snapshot that cursors are read with: an older one, as that of a whole
 * transaction, does not see what they have handed out since.
 */
static int64
lowest_stored(int32 source_id, Snapshot snapshot)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	bool		isnull;
	int64		position;

	PushActiveSnapshot(snapshot);
	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source_id));
	dbopt_owner_query(dbopt_sql("SELECT least("
								"(SELECT min(c.from_position) FROM @extschema@.dbopt_chunk c"
								" JOIN @extschema@.dbopt_cursor USING (cursor_id)"
								" WHERE source_id = $1),"
								"(SELECT min(q.log_position) FROM @extschema@.dbopt_retry_queue q"
								" JOIN @extschema@.dbopt_handler USING (handler_id)"
								" WHERE source_id = $1))"), &args);
	position = DatumGetInt64(dbopt_owner_value(0, 1, &isnull));
	dbopt_owner_end(&scope);
	PopActiveSnapshot();
	return isnull ? PG_INT64_MAX : position;
}

/* The position of the first event behind a place; or PG_INT64_MAX. */
static int64
first_behind(DbOptLog *log, Snapshot snapshot, const char *event_type,
			 const DbOptPlace *place)
{
	DbOptLogScan *scan = dbopt_log_scan_begin(log, snapshot, event_type, place,
											  NULL, DBOPT_LOG_KEYS);
	DbOptLogEvent event;
	int64		position = PG_INT64_MAX;

	if (dbopt_log_scan_next(scan, &event))
		position = event.position;
	dbopt_log_scan_end(scan);
	return position;
}

static DbOptCursor *
find_cursor(List *cursors, int32 handler_id, const char *event_type)
{
	ListCell   *cell;

	foreach(cell, cursors)
	{
		DbOptCursor *cursor = lfirst(cell);

		if (cursor->handler_id == handler_id &&
			strcmp(cursor->event_type, event_type) == 0)
			return cursor;
	}
	return NULL;
}

/* The lowest position of a type that the handler has not had yet. */
static int64
lowest_of_type(DbOptLog *log, Snapshot snapshot, const DbOptHandler *handler,
			   const DbOptCursor *cursor, const char *event_type)
{
	DbOptPlace	place = {handler->start_position, true, (Datum) 0};
	int64	   *holes = handler->start_holes;
	int			nholes = handler->nstart_holes;
	DbOptVersion version;
	int64		lowest;

	if (cursor != NULL &&
		dbopt_version_read(log, cursor->cursor_id, snapshot, &version))
	{
		place = version.last;
		holes = version.holes;
		nholes = version.nholes;
	}
	lowest = first_behind(log, snapshot, event_type, &place);
	for (int i = 0; i < nholes; i++)
		lowest = Min(lowest, holes[i]);
	return lowest;
}

/* Events of transactions that are still running may come from here on. */
static int64
oldest_running(Snapshot snapshot)
{
	DbOptHorizon horizon;

	dbopt_horizon_read(snapshot, dbopt_position_offset(), &horizon);
	return horizon.nrunning > 0 ? horizon.running[0] : horizon.limit;
}

static int64
delivered_before(const DbOptConfig *config, const DbOptSource *source,
				 DbOptLog *log, Snapshot snapshot)
{
	List	   *types = dbopt_log_event_types(log, snapshot);
	List	   *cursors = dbopt_cursors_load();
	int64		lowest = Min(oldest_running(snapshot),
							 lowest_stored(source->source_id, snapshot));
	ListCell   *cell;
	ListCell   *type;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (handler->source != source)
			continue;
		foreach(type, types)
		{
			const char *name = lfirst(type);

			CHECK_FOR_INTERRUPTS();
			if (dbopt_pattern_match(handler->event_type, name) >= 0)
				lowest = Min(lowest,
							 lowest_of_type(log, snapshot, handler,
											find_cursor(cursors, handler->handler_id, name),
											name));
		}
	}
	return lowest;
}

static bool
has_handlers(const DbOptConfig *config, const DbOptSource *source)
{
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		if (((DbOptHandler *) lfirst(cell))->source == source)
			return true;
	}
	return false;
}

/*
 * dbopt_delivered_before(source_id integer) RETURNS bigint
 *
 * NULL for a mark_processed source, whose column processed tells, for one that
 * no handler is registered on, and for one that cannot be read.
 */
Datum
dbopt_delivered_before(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config = dbopt_config_get();
	DbOptSource *source = dbopt_config_source(config, PG_GETARG_INT32(0));
	DbOptLog   *log;
	Snapshot	snapshot;
	char	   *problem;
	int64		position;

	if (source == NULL || !source->usable || source->mark_processed ||
		!has_handlers(config, source))
		PG_RETURN_NULL();
	log = dbopt_log_try_open(source->relid, &problem);
	if (log == NULL)
		PG_RETURN_NULL();
	snapshot = dbopt_log_snapshot(&log);
	position = delivered_before(config, source, log, snapshot);
	UnregisterSnapshot(snapshot);
	dbopt_log_close(log);
	PG_RETURN_INT64(position);
}
