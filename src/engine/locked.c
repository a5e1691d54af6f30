/*
 * locked.c
 *		Events tables that somebody else has locked, or the log index or a
 *		handler of.
 *
 * Run by the scheduler alone, in its own memory.  A session that finds the
 * events table, a partition, the log index or its handler locked does not wait:
 * it would keep its place in the pool from all other tables' events for as long
 * as the lock is held.  It leaves, and the scheduler looks whether the lock has
 * gone, at first after some milliseconds and then once a second; until then it
 * sends nobody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/config.h"
#include "engine/delivery.h"
#include "engine/locked.h"
#include "engine/log.h"
#include "engine/own_locks.h"
#include "engine/worker.h"
#include "policy/backoff.h"
#include "state/log_line.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define WORTH_LOGGING	10		/* failures in a row: after 3 s */

static const DbOptBackoff probe_backoff = {
	.base_delay = 5000,
	.max_delay = 1000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

typedef struct Locked
{
	int32		source_id;
	TimestampTz probe_at;
	int			failures;		/* in a row */
} Locked;

static List *tables = NIL;		/* of Locked * */

static Locked *
find(int32 source_id)
{
	ListCell   *cell;

	foreach(cell, tables)
	{
		Locked	   *table = lfirst(cell);

		if (table->source_id == source_id)
			return table;
	}
	return NULL;
}

static void
put_off(Locked *table, TimestampTz now)
{
	table->failures++;
	table->probe_at = now + dbopt_backoff_base(&probe_backoff,
											   table->failures);
}

void
dbopt_locked_note(int32 source_id, TimestampTz now)
{
	MemoryContext previous;
	Locked	   *table;

	if (find(source_id) != NULL)
		return;
	previous = MemoryContextSwitchTo(TopMemoryContext);
	table = palloc0(sizeof(Locked));
	table->source_id = source_id;
	put_off(table, now);
	tables = lappend(tables, table);
	MemoryContextSwitchTo(previous);
}

TimestampTz
dbopt_locked_until(int32 source_id)
{
	Locked	   *table = find(source_id);

	return table == NULL ? 0 : table->probe_at;
}

static void
log_lock(const DbOptSource *source)
{
	const char *name = get_rel_name(source->relid);
	DbOptLogLine line = {
		.kind = DBOPT_LOG_HANDLER,
		.slot = -1,
		.message = psprintf("events of table \"%s\" wait for a lock on it", name),
		.hint = "Another session has locked the table or its log index, or waits to do so; or it is removing a handler of it.",
		.subject = "table",
		.subject_value = name
	};

	dbopt_log_line(&line);
}

/* False: somebody is removing a handler of it. */
static bool
handlers_stay(const DbOptConfig *config, const DbOptSource *source)
{
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		const DbOptHandler *handler = lfirst(cell);

		if (handler->source == source && source->mark_processed &&
			!dbopt_handler_lock(handler->handler_id, ShareLock, false))
			return false;
	}
	return true;
}

/* True: it can be read again, or is no longer anybody's. */
static bool
is_free(Locked *table)
{
	const DbOptConfig *config = dbopt_config_get();
	DbOptSource *source = dbopt_config_source(config, table->source_id);

	if (source == NULL || !source->usable ||
		(handlers_stay(config, source) &&
		 dbopt_log_try_lock(source->relid, dbopt_delivery_lock_mode(source))))
		return true;
	if (table->failures == WORTH_LOGGING)
		log_lock(source);
	return false;
}

TimestampTz
dbopt_locked_probe(TimestampTz now)
{
	MemoryContext previous = CurrentMemoryContext;
	TimestampTz next = DBOPT_NEVER;
	ListCell   *cell;

	foreach(cell, tables)
	{
		Locked	   *table = lfirst(cell);
		bool		free = false;

		if (table->probe_at <= now)
		{
			StartTransactionCommand();
			free = is_free(table);
			CommitTransactionCommand();
			MemoryContextSwitchTo(previous);
			put_off(table, now);
		}
		if (free)
		{
			tables = foreach_delete_current(tables, cell);
			pfree(table);
		}
		else
			next = Min(next, table->probe_at);
	}
	return next;
}
