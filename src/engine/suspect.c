/*
 * suspect.c
 *		What may have crashed the server: marking it, and what is marked.
 *
 * Run by the scheduler, in short transactions, when it starts after an unclean
 * end: in SQL as the extension's owner, but for handing out (handout.c).  It
 * changes only rows that nobody else has in work: what is marked is run by
 * nobody but the sessions that this scheduler sends for it.
 *
 * A hand-out of up to 16 events need not have been flushed when its events
 * ran, so the next events of each cursor are suspects, too.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "engine/delivery.h"
#include "engine/handout.h"
#include "engine/own_locks.h"
#include "engine/owner_spi.h"
#include "engine/progress.h"
#include "engine/catalog.h"
#include "engine/suspect.h"
#include "state/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A hand-out up to this size is not flushed at once. */
#define SMALL_CHUNK		16

static void
execute(const char *statement, DbOptOwnerArgs *args)
{
	(void) dbopt_owner_execute(dbopt_sql(statement), args);
}

/*
 * The server crashed: groups are run one by one from now on, and an event
 * that ran alone is to be written down as failed.
 */
static void
blame_attempts(DbOptOwnerArgs *args)
{
	execute("UPDATE @extschema@.dbopt_chunk c SET suspicion = 2"
			" FROM @extschema@.dbopt_attempt a"
			" WHERE a.incarnation <> $1"
			" AND a.cursor_id = c.cursor_id"
			" AND a.seq = c.seq", args);
	execute("UPDATE @extschema@.dbopt_retry_queue q SET suspicion = 2"
			" FROM @extschema@.dbopt_attempt a"
			" WHERE a.incarnation <> $1"
			" AND a.cursor_id IS NULL AND a.event_key IS NULL"
			" AND q.handler_id = a.handler_id"
			" AND q.suspicion = 1"
			" AND q.next_retry_at <= a.started_at", args);
	execute("UPDATE @extschema@.dbopt_attempt SET crashed = true"
			" WHERE incarnation <> $1"
			" AND event_key IS NOT NULL", args);
}

void
dbopt_suspects_judge(void)
{
	DbOptOwnerArgs args = {0};
	DbOptOwnerScope scope;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(dbopt_shared->incarnation));
	if (dbopt_shared->unclean_start)
		blame_attempts(&args);
	execute("DELETE FROM @extschema@.dbopt_attempt a"
			" WHERE a.incarnation <> $1"
			" AND (NOT a.crashed OR NOT EXISTS"
			" (SELECT FROM @extschema@.dbopt_retry_queue q"
			" WHERE q.handler_id = a.handler_id"
			" AND q.log_position = a.log_position"
			" AND q.event_key = a.event_key))", &args);
	dbopt_owner_end(&scope);
}

void
dbopt_suspects_mark(int sessions)
{
	DbOptOwnerArgs args = {0};
	DbOptOwnerScope scope;

	dbopt_owner_begin(&scope);
	execute("UPDATE @extschema@.dbopt_chunk SET suspicion = 1"
			" WHERE suspicion = 0", NULL);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(sessions));
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(DBOPT_SINGLE_BATCH));
	execute("UPDATE @extschema@.dbopt_retry_queue q SET suspicion = 1"
			" FROM @extschema@.dbopt_handler h CROSS JOIN LATERAL"
			" (SELECT r.log_position, r.event_key"
			" FROM @extschema@.dbopt_retry_queue r"
			" WHERE r.handler_id = h.handler_id"
			" AND r.next_retry_at <= now()"
			" ORDER BY r.next_retry_at"
			" LIMIT $2 * LEAST(h.max_concurrency, $1)) first"
			" WHERE q.handler_id = h.handler_id"
			" AND q.log_position = first.log_position"
			" AND q.event_key = first.event_key"
			" AND q.suspicion = 0", &args);
	dbopt_owner_end(&scope);
}

void
dbopt_suspects_hand_out(const DbOptConfig *config, const DbOptCursor *cursor,
						int sessions)
{
	DbOptSource *source = dbopt_config_source(config, cursor->source_id);
	DbOptHandler *handler;
	DbOptChunk	chunk;

	if (source == NULL || !source->usable)
		return;
	handler = dbopt_cursor_handler(config, cursor);
	if (handler == NULL || !handler->usable || handler->paused)
		return;
	if (handler->max_concurrency > 0)
		sessions = Min(sessions, handler->max_concurrency);
	if (dbopt_handler_lock(handler->handler_id, ShareLock, false) &&
		dbopt_log_try_lock(source->relid, AccessShareLock))
		(void) dbopt_handout(config, source, cursor, SMALL_CHUNK * sessions,
							 &chunk);
}

/* Chunks: (cursor_id, seq, suspicion). */
static List *
load_chunks(List *suspects)
{
	ListCell   *cell;

	foreach(cell, dbopt_chunks_load())
	{
		DbOptChunkId *chunk = lfirst(cell);
		DbOptSuspects *entry;

		if (chunk->suspicion == 0)
			continue;
		entry = palloc0(sizeof(DbOptSuspects));
		entry->cursor_id = chunk->cursor_id;
		entry->seq = chunk->seq;
		entry->suspicion = chunk->suspicion;
		suspects = lappend(suspects, entry);
	}
	return suspects;
}

static List *
load_retries(List *suspects, MemoryContext context)
{
	uint64		rows =
	dbopt_owner_execute(dbopt_sql("SELECT handler_id::int8,"
								  " LEAST(suspicion, 2)::int8,"
								  " min(next_retry_at), count(*)"
								  " FROM @extschema@.dbopt_retry_queue"
								  " WHERE suspicion > 0"
								  " GROUP BY 1, 2"), NULL);
	MemoryContext previous = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < rows; row++)
	{
		DbOptSuspects *entry = palloc0(sizeof(DbOptSuspects));
		bool		isnull;

		entry->handler_id = (int32) dbopt_owner_int64(row, 1);
		entry->suspicion = (int) dbopt_owner_int64(row, 2);
		entry->retry_at = DatumGetTimestampTz(dbopt_owner_value(row, 3,
																&isnull));
		entry->due_at = entry->retry_at;
		entry->count = dbopt_owner_int64(row, 4);
		suspects = lappend(suspects, entry);
	}
	MemoryContextSwitchTo(previous);
	return suspects;
}

List *
dbopt_suspects_load(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *suspects = load_chunks(NIL);
	DbOptOwnerScope scope;

	dbopt_owner_begin(&scope);
	suspects = load_retries(suspects, context);
	dbopt_owner_end(&scope);
	return suspects;
}
