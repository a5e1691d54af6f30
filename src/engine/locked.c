/*
 * locked.c
 *		Events tables, with their log indexes, and handlers that somebody else
 *		has locked.
 *
 * Run by the scheduler alone, in its own memory.  A session that finds the
 * events table, a partition, the log index or its handler locked does not wait:
 * it would keep its place in the pool from all others' events for as long as the
 * lock is held.  It leaves, and the scheduler looks whether the lock has gone,
 * at first after some milliseconds and then once a second; until then it sends
 * nobody to the table's events, or the handler's.
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
	int32		handler_id;		/* 0: the table is locked */
	TimestampTz probe_at;
	int			failures;		/* in a row */
} Locked;

static List *locks = NIL;		/* of Locked * */

static Locked *
find(int32 source_id, int32 handler_id)
{
	ListCell   *cell;

	foreach(cell, locks)
	{
		Locked	   *lock = lfirst(cell);

		if (lock->source_id == source_id && lock->handler_id == handler_id)
			return lock;
	}
	return NULL;
}

static void
put_off(Locked *lock, TimestampTz now)
{
	lock->failures++;
	lock->probe_at = now + dbopt_backoff_base(&probe_backoff, lock->failures);
}

void
dbopt_locked_note(int32 source_id, int32 handler_id, TimestampTz now)
{
	MemoryContext previous;
	Locked	   *lock;

	if (find(source_id, handler_id) != NULL)
		return;
	previous = MemoryContextSwitchTo(TopMemoryContext);
	lock = palloc0(sizeof(Locked));
	lock->source_id = source_id;
	lock->handler_id = handler_id;
	put_off(lock, now);
	locks = lappend(locks, lock);
	MemoryContextSwitchTo(previous);
}

TimestampTz
dbopt_locked_until(int32 source_id, int32 handler_id)
{
	const Locked *table = find(source_id, 0);
	const Locked *handler = find(source_id, handler_id);

	return Max(table == NULL ? 0 : table->probe_at,
			   handler == NULL ? 0 : handler->probe_at);
}

static void
log_table(const DbOptSource *source)
{
	const char *name = get_rel_name(source->relid);
	DbOptLogLine line = {
		.kind = DBOPT_LOG_HANDLER,
		.slot = -1,
		.message = psprintf("events of table \"%s\" wait for a lock on it", name),
		.hint = "Another session has locked the table or its log index, or waits to do so.",
		.subject = "table",
		.subject_value = name
	};

	dbopt_log_line(&line);
}

static void
log_handler(const DbOptHandler *handler)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_HANDLER,
		.slot = -1,
		.handler = handler->name,
		.message = psprintf("events of handler \"%s\" wait for a lock on it",
							handler->name),
		.hint = "Another session is removing, replacing or replaying the handler, or waits to do so."
	};

	dbopt_log_line(&line);
}

static bool
handler_is_free(const Locked *lock, const DbOptHandler *handler)
{
	if (handler == NULL ||
		dbopt_handler_lock(lock->handler_id, ShareLock, false))
		return true;
	if (lock->failures == WORTH_LOGGING)
		log_handler(handler);
	return false;
}

static bool
table_is_free(const Locked *lock, const DbOptSource *source)
{
	if (source == NULL || !source->usable ||
		dbopt_log_try_lock(source->relid, dbopt_delivery_lock_mode(source)))
		return true;
	if (lock->failures == WORTH_LOGGING)
		log_table(source);
	return false;
}

/* True: the events can be run again, or are no longer anybody's. */
static bool
is_free(const Locked *lock)
{
	const DbOptConfig *config = dbopt_config_get();

	return lock->handler_id != 0 ?
		handler_is_free(lock, dbopt_config_handler(config, lock->handler_id)) :
		table_is_free(lock, dbopt_config_source(config, lock->source_id));
}

TimestampTz
dbopt_locked_probe(TimestampTz now)
{
	MemoryContext previous = CurrentMemoryContext;
	TimestampTz next = DBOPT_NEVER;
	ListCell   *cell;

	foreach(cell, locks)
	{
		Locked	   *lock = lfirst(cell);
		bool		free = false;

		if (lock->probe_at <= now)
		{
			StartTransactionCommand();
			free = is_free(lock);
			CommitTransactionCommand();
			MemoryContextSwitchTo(previous);
			put_off(lock, now);
		}
		if (free)
		{
			locks = foreach_delete_current(locks, cell);
			pfree(lock);
		}
		else
			next = Min(next, lock->probe_at);
	}
	return next;
}
