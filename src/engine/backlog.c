/*
 * backlog.c
 *		How many events of a cursor are not delivered.
 *
 * Run by whoever asks for the backlog.  Takes ACCESS SHARE on the events table
 * and no lock on cursor and chunks: they and the events are read with one
 * snapshot, so that what moves meanwhile does not show.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "engine/backlog.h"
#include "engine/backlog_estimate.h"
#include "engine/catalog.h"
#include "engine/chunk.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

struct DbOptBacklogRead
{
	DbOptLog   *log;
	Snapshot	snapshot;
	bool		unprocessed;	/* only these wait */
};

/* A count that is under way. */
typedef struct DbOptCount
{
	DbOptLog   *log;
	Snapshot	snapshot;
	const char *event_type;
	bool		unprocessed;	/* only these */
	int64		limit;			/* events counted at most */
	int64		patience;		/* processed events passed over at most */
	bool		begun;			/* the first event has been seen */
	DbOptWaiting *waiting;
} DbOptCount;

/* A column of the event by name; false: there is none, or it is NULL. */
static bool
event_column(const DbOptLogEvent *event, const char *name, Oid *type,
			 Datum *value)
{
	Oid			relid = RelationGetRelid(event->leaf->rel);
	AttrNumber	column = get_attnum(relid, name);
	bool		isnull;

	if (column <= 0)
		return false;
	*type = get_atttype(relid, column);
	*value = slot_getattr(event->slot, column, &isnull);
	return !isnull;
}

static bool
event_processed(const DbOptLogEvent *event)
{
	Oid			type;
	Datum		value;

	return event_column(event, "processed", &type, &value) &&
		type == BOOLOID && DatumGetBool(value);
}

/* When it happened, as far as the event tells. */
static void
note_time(DbOptCount *count, const DbOptLogEvent *event)
{
	static const char *const columns[] = {"created_at", "event_timestamp"};

	for (int i = 0; i < lengthof(columns); i++)
	{
		Oid			type;
		Datum		value;

		if (!event_column(event, columns[i], &type, &value))
			continue;
		if (type == TIMESTAMPOID)
			value = DirectFunctionCall1(timestamp_timestamptz, value);
		else if (type != TIMESTAMPTZOID)
			continue;
		count->waiting->oldest = DatumGetTimestampTz(value);
		count->waiting->has_oldest = true;
		return;
	}
}

/* Counts an event; false: that is enough. */
static bool
count_event(DbOptCount *count, const DbOptLogEvent *event)
{
	if (count->unprocessed && event_processed(event))
		return count->patience-- > 0;
	if (!count->begun)
		note_time(count, event);
	count->begun = true;
	if (count->waiting->events >= count->limit)
	{
		count->waiting->exact = false;
		return false;
	}
	count->waiting->events++;
	return true;
}

/*
 * Counts a part of the log; NULL for "to": all the rest.  Rows are read until
 * the first event is there; then, if its place is all that is asked for, the
 * index will do.
 */
static bool
count_part(DbOptCount *count, const DbOptPlace *from, const DbOptPlace *to)
{
	DbOptPlace	next = *from;
	bool		rows;
	bool		again = true;
	bool		more = true;

	while (again)
	{
		DbOptLogScan *scan;
		DbOptLogEvent event;

		CHECK_FOR_INTERRUPTS();
		rows = count->unprocessed || !count->begun;
		again = false;
		scan = dbopt_log_scan_begin(count->log, count->snapshot,
									count->event_type, &next, to,
									rows ? DBOPT_LOG_ROWS : DBOPT_LOG_KEYS);
		while (more && !again && dbopt_log_scan_next(scan, &event))
		{
			more = count_event(count, &event);
			again = more && rows && !count->unprocessed && count->begun;
			next.position = event.position;
			next.whole = false;
			if (again)
				next.key = dbopt_log_key_copy(count->log, event.key);
		}
		dbopt_log_scan_end(scan);
	}
	return more;
}

/* Events that are handed out, and not settled; false: that is enough. */
static bool
count_chunks(DbOptCount *count, int32 cursor_id)
{
	List	   *chunks = dbopt_chunks_of_cursor(count->log, cursor_id,
												count->snapshot);
	bool		more = true;
	ListCell   *cell;

	foreach(cell, chunks)
	{
		DbOptChunk *chunk = lfirst(cell);
		DbOptChunkWalk *walk = dbopt_chunk_walk_begin(count->log,
													  count->snapshot,
													  count->event_type,
													  chunk, &chunk->from,
													  DBOPT_LOG_ROWS);
		DbOptLogEvent event;

		CHECK_FOR_INTERRUPTS();
		while (more && dbopt_chunk_walk_next(walk, &event))
			more = count_event(count, &event);
		dbopt_chunk_walk_end(walk);
	}
	return more;
}

/* The holes, which come first in the log, then what is behind the cursor. */
static void
count_version(DbOptCount *count, const DbOptVersion *version)
{
	bool		more = true;

	for (int i = 0; i < version->nholes && more; i++)
	{
		DbOptPlace	from = {version->holes[i] - 1, true, (Datum) 0};
		DbOptPlace	to = {version->holes[i], true, (Datum) 0};

		if (version->has_partial &&
			version->partial.position == version->holes[i])
			from = version->partial;
		more = count_part(count, &from, &to);
	}
	if (more)
		count_part(count, &version->last, NULL);
}

DbOptBacklogRead *
dbopt_backlog_read_begin(const DbOptSource *source)
{
	DbOptBacklogRead *reading = palloc(sizeof(DbOptBacklogRead));
	char	   *problem;

	reading->log = dbopt_log_try_open(source->relid, &problem);
	if (reading->log == NULL)
	{
		pfree(reading);
		return NULL;
	}
	reading->snapshot = dbopt_snapshot_new();
	reading->unprocessed = source->mark_processed;
	return reading;
}

void
dbopt_backlog_read_end(DbOptBacklogRead *reading)
{
	if (reading == NULL)
		return;
	UnregisterSnapshot(reading->snapshot);
	dbopt_log_close(reading->log);
	pfree(reading);
}

/* False: the cursor is gone. */
static bool
count_cursor(DbOptCount *count, const DbOptBacklogRead *reading,
			 const DbOptCursor *cursor, bool estimate)
{
	DbOptWaiting *waiting = count->waiting;
	DbOptVersion version;
	bool		found;

	memset(waiting, 0, sizeof(*waiting));
	waiting->exact = true;
	count->log = reading->log;
	count->snapshot = reading->snapshot;
	count->event_type = cursor->event_type;
	count->unprocessed = reading->unprocessed;

	found = dbopt_version_read(count->log, cursor->cursor_id, count->snapshot,
							   &version);
	if (found && count_chunks(count, cursor->cursor_id))
		count_version(count, &version);
	if (estimate && !waiting->exact)
		waiting->events = Max(dbopt_waiting_estimate(count->log,
													 cursor->event_type,
													 version.last.position),
							  count->limit + 1);
	return found;
}

bool
dbopt_waiting_count(const DbOptSource *source, const DbOptCursor *cursor,
					DbOptWaiting *waiting)
{
	DbOptCount	count = {
		.waiting = waiting,
		.limit = DBOPT_WAITING_EXACT,
		.patience = PG_INT64_MAX
	};
	DbOptBacklogRead *reading = dbopt_backlog_read_begin(source);
	bool		counted;

	memset(waiting, 0, sizeof(*waiting));
	counted = reading != NULL && count_cursor(&count, reading, cursor, true);
	dbopt_backlog_read_end(reading);
	return counted;
}

bool
dbopt_waiting_oldest(const DbOptBacklogRead *reading,
					 const DbOptCursor *cursor, DbOptWaiting *waiting)
{
	DbOptCount	count = {
		.waiting = waiting,
		.limit = 0,
		.patience = DBOPT_WAITING_PASSED
	};

	return count_cursor(&count, reading, cursor, false);
}
