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
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define BACKLOG_COLUMNS	7

typedef struct DbOptBacklog
{
	const DbOptHandler *handler;
	char	   *event_type;
	bool		idle;			/* for one that has no other entry */
	bool		readable;		/* waiting is known */
	DbOptWaiting waiting;
	int64		retrying;
	int64		dead;
} DbOptBacklog;

PG_FUNCTION_INFO_V1(dbopt_backlog);

/* Of a handler and event type there may be more than one: see put_backlogs. */
static DbOptBacklog *
add_entry(List **backlogs, const DbOptHandler *handler, char *event_type)
{
	DbOptBacklog *entry = palloc0(sizeof(DbOptBacklog));

	entry->handler = handler;
	entry->event_type = event_type;
	entry->readable = true;
	*backlogs = lappend(*backlogs, entry);
	return entry;
}

/*
 * Who watches does not wait for what somebody does to an events table.  NULL:
 * it cannot be read at present.
 */
static DbOptBacklogRead *
source_open(const DbOptSource *source)
{
	if (!dbopt_log_try_lock(source->relid, AccessShareLock))
		return NULL;
	return dbopt_backlog_read_begin(source, DBOPT_DOUBLED_COUNT);
}

/* Each source is opened once, for all its cursors. */
static void
add_waiting(List **backlogs, const DbOptConfig *config)
{
	const DbOptSource *source = NULL;
	DbOptBacklogRead *reading = NULL;
	ListCell   *cell;

	foreach(cell, dbopt_cursors_by_source())
	{
		DbOptCursor *cursor = lfirst(cell);
		DbOptHandler *handler = dbopt_cursor_handler(config, cursor);
		DbOptBacklog *entry;

		CHECK_FOR_INTERRUPTS();
		if (handler == NULL)
			continue;
		if (handler->source != source)
		{
			dbopt_backlog_read_end(reading);
			source = handler->source;
			reading = source_open(source);
		}
		entry = add_entry(backlogs, handler, cursor->event_type);
		entry->readable = reading != NULL &&
			dbopt_waiting_count(reading, cursor, &entry->waiting);
	}
	dbopt_backlog_read_end(reading);
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
		entry = add_entry(backlogs, handler, dbopt_owner_text(row, 2));
		entry->retrying = dbopt_owner_int64(row, 3);
		entry->dead = dbopt_owner_int64(row, 4);
	}
}

/* Handlers that have met no event yet have a row under their own pattern. */
static void
add_idle(List **backlogs, const DbOptConfig *config)
{
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		add_entry(backlogs, handler, handler->event_type)->idle = true;
	}
}

static int
compare_entries(const ListCell *a, const ListCell *b)
{
	const DbOptBacklog *one = lfirst(a);
	const DbOptBacklog *other = lfirst(b);

	if (one->handler != other->handler)
		return one->handler->handler_id < other->handler->handler_id ? -1 : 1;
	if (one->idle != other->idle)
		return one->idle ? 1 : -1;
	return strcmp(one->event_type, other->event_type);
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

/* Adds what the second one has, of the same events, to the first. */
static void
merge_entries(DbOptBacklog *entry, const DbOptBacklog *other)
{
	if (!other->readable || other->waiting.events > 0)
	{
		entry->readable = other->readable;
		entry->waiting = other->waiting;
	}
	entry->retrying += other->retrying;
	entry->dead += other->dead;
}

/* A row for each handler and event type, of which one entry has what waits. */
static void
put_backlogs(ReturnSetInfo *result, List *backlogs)
{
	DbOptBacklog *entry = NULL;
	ListCell   *cell;

	list_sort(backlogs, compare_entries);
	foreach(cell, backlogs)
	{
		DbOptBacklog *next = lfirst(cell);

		if (entry != NULL && next->handler == entry->handler &&
			(next->idle || strcmp(next->event_type, entry->event_type) == 0))
		{
			merge_entries(entry, next);
			continue;
		}
		if (entry != NULL)
			put_backlog(result, entry);
		entry = next;
	}
	if (entry != NULL)
		put_backlog(result, entry);
}

/* dbopt_backlog() -> a row for each handler and event type */
Datum
dbopt_backlog(PG_FUNCTION_ARGS)
{
	const DbOptConfig *config;
	DbOptOwnerScope scope;
	List	   *backlogs = NIL;

	InitMaterializedSRF(fcinfo, 0);
	config = dbopt_config_get();
	add_waiting(&backlogs, config);

	/* The list is read before SPI, in whose memory parts of it are, ends. */
	dbopt_owner_begin(&scope);
	add_failed(&backlogs, config);
	add_idle(&backlogs, config);
	put_backlogs((ReturnSetInfo *) fcinfo->resultinfo, backlogs);
	dbopt_owner_end(&scope);
	return (Datum) 0;
}
