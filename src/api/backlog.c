/*
 * backlog.c
 *		What is undelivered, by handler and event type: SQL function.
 *
 * Run by whoever watches.  Waiting events are counted in the log
 * (engine/backlog.h), retries and dead letters in their tables; each with a
 * snapshot of its own, so that an event on its way from one to the other may
 * be missed or counted in both.
 */
#include "postgres.h"

#include "engine/backlog.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/cursor.h"
#include "engine/log.h"
#include "engine/owner_spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define BACKLOG_COLUMNS	7

typedef struct DbOptBacklog
{
	const DbOptHandler *handler;
	char	   *event_type;
	bool		readable;		/* waiting is known */
	DbOptWaiting waiting;
	int64		retrying;
	int64		dead;
} DbOptBacklog;

PG_FUNCTION_INFO_V1(dbopt_backlog);

/* The entry of a handler and event type in the list, added if need be. */
static DbOptBacklog *
backlog_entry(List **backlogs, const DbOptHandler *handler,
			  const char *event_type)
{
	DbOptBacklog *entry;
	ListCell   *cell;

	foreach(cell, *backlogs)
	{
		entry = lfirst(cell);
		if (entry->handler == handler &&
			strcmp(entry->event_type, event_type) == 0)
			return entry;
	}
	entry = palloc0(sizeof(DbOptBacklog));
	entry->handler = handler;
	entry->event_type = pstrdup(event_type);
	entry->readable = true;
	*backlogs = lappend(*backlogs, entry);
	return entry;
}

/* Who watches does not wait for what somebody does to an events table. */
static bool
may_read(const DbOptSource *source)
{
	return dbopt_log_try_lock(source->relid, AccessShareLock);
}

static void
add_waiting(List **backlogs, const DbOptConfig *config)
{
	ListCell   *cell;

	foreach(cell, dbopt_cursors_load())
	{
		DbOptCursor *cursor = lfirst(cell);
		DbOptHandler *handler = dbopt_cursor_handler(config, cursor);
		DbOptBacklog *entry;

		if (handler == NULL)
			continue;
		entry = backlog_entry(backlogs, handler, cursor->event_type);
		entry->readable = may_read(handler->source) &&
			dbopt_waiting_count(handler->source, cursor, &entry->waiting);
	}
}

static void
add_failed(List **backlogs, const DbOptConfig *config)
{
	uint64		rows =
	dbopt_owner_query(dbopt_sql("SELECT handler_id::bigint, event_type,"
								" pg_catalog.sum(retrying)::bigint, pg_catalog.sum(dead)::bigint"
								" FROM (SELECT handler_id, event_type, pg_catalog.count(*) AS retrying, 0 AS dead"
								" FROM @extschema@.dbopt_retry_queue GROUP BY handler_id, event_type"
								" UNION ALL SELECT handler_id, event_type, 0, pg_catalog.count(*)"
								" FROM @extschema@.dbopt_dead_letter GROUP BY handler_id, event_type) failed"
								" GROUP BY handler_id, event_type"),
					  NULL);

	for (uint64 row = 0; row < rows; row++)
	{
		DbOptHandler *handler =
		dbopt_config_handler(config, (int32) dbopt_owner_int64(row, 1));
		DbOptBacklog *entry;

		if (handler == NULL)
			continue;
		entry = backlog_entry(backlogs, handler, dbopt_owner_text(row, 2));
		entry->retrying = dbopt_owner_int64(row, 3);
		entry->dead = dbopt_owner_int64(row, 4);
	}
}

/* Handlers that have met no event yet have a row under their own pattern. */
static void
add_idle(List **backlogs, const DbOptConfig *config)
{
	ListCell   *cell;
	ListCell   *other;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);
		bool		found = false;

		foreach(other, *backlogs)
			found = found ||
			((DbOptBacklog *) lfirst(other))->handler == handler;
		if (!found)
			backlog_entry(backlogs, handler, handler->event_type);
	}
}

static void
put_backlog(ReturnSetInfo *result, const DbOptBacklog *entry)
{
	const DbOptWaiting *waiting = &entry->waiting;
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[BACKLOG_COLUMNS] = {0};
	bool		nulls[BACKLOG_COLUMNS] = {0};

	values[0] = CStringGetTextDatum(entry->handler->name);
	values[1] = CStringGetTextDatum(entry->event_type);
	values[2] = Int64GetDatum(waiting->events);
	nulls[2] = !entry->readable;
	values[3] = Int64GetDatum(entry->retrying);
	values[4] = Int64GetDatum(entry->dead);
	nulls[5] = nulls[6] = true;
	if (waiting->has_oldest && !TIMESTAMP_NOT_FINITE(waiting->oldest))
	{
		nulls[5] = nulls[6] = false;
		values[5] = TimestampTzGetDatum(waiting->oldest);
		values[6] = DirectFunctionCall2(timestamp_mi,
										TimestampTzGetDatum(Max(now, waiting->oldest)),
										TimestampTzGetDatum(waiting->oldest));
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* dbopt_backlog() -> a row for each handler and event type */
Datum
dbopt_backlog(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config;
	DbOptOwnerScope scope;
	List	   *backlogs = NIL;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	config = dbopt_config_get();
	add_waiting(&backlogs, config);

	/* The list is read before SPI, in whose memory parts of it are, ends. */
	dbopt_owner_begin(&scope);
	add_failed(&backlogs, config);
	add_idle(&backlogs, config);
	foreach(cell, backlogs)
		put_backlog((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	dbopt_owner_end(&scope);
	return (Datum) 0;
}
