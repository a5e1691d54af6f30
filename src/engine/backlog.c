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
	bool		begun;			/* an event has been seen */
	int64		first;			/* position of the first one so far */
	int64		handed_out;		/* events of chunks, as they were counted then */
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

/* Parts of the log are not read in its order: can this be the first event? */
static bool
may_be_first(const DbOptCount *count, int64 position)
{
	return !count->begun || position < count->first;
}

/* No more is counted; where it is, the first event is looked for still. */
static bool
is_enough(const DbOptCount *count)
{
	return !count->waiting->exact || count->patience < 0;
}

/* The first event so far; when it happened, as far as it tells. */
static void
note_first(DbOptCount *count, const DbOptLogEvent *event)
{
	static const char *const columns[] = {"created_at", "event_timestamp"};

	count->begun = true;
	count->first = event->position;
	count->waiting->has_oldest = false;
	for (int i = 0; i < lengthof(columns); i++)
	{
		Oid			type;
		Datum		value;
		int			overflow = 0;

		if (!event_column(event, columns[i], &type, &value))
			continue;
		if (type == TIMESTAMPTZOID)
			count->waiting->oldest = DatumGetTimestampTz(value);
		else if (type == TIMESTAMPOID)
			count->waiting->oldest =
				timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value),
												   &overflow);
		else
			continue;

		/*
		 * One that the time zone puts out of range tells none, and is no
		 * error.
		 */
		count->waiting->has_oldest = overflow == 0;
		return;
	}
}

/* Counts an event; false: that is enough of this part of the log. */
static bool
count_event(DbOptCount *count, const DbOptLogEvent *event)
{
	if (count->unprocessed && event_processed(event))
		return count->patience-- > 0;
	if (may_be_first(count, event->position))
		note_first(count, event);
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
 * an event is there that may be the first one; then, if its place is all that
 * is asked for, the index will do.
 */
static void
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
		rows = count->unprocessed ||
			(to == NULL ? !count->begun : may_be_first(count, to->position));
		again = false;
		scan = dbopt_log_scan_begin(count->log, count->snapshot,
									count->event_type, &next, to,
									rows ? DBOPT_LOG_ROWS : DBOPT_LOG_KEYS);
		while (more && !again && dbopt_log_scan_next(scan, &event))
		{
			more = count_event(count, &event);
			again = more && rows && !count->unprocessed;
			next.position = event.position;
			next.whole = false;
			if (again)
				next.key = dbopt_log_key_copy(count->log, event.key);
		}
		dbopt_log_scan_end(scan);
	}
}

static void
count_chunk(DbOptCount *count, const DbOptChunk *chunk)
{
	DbOptChunkWalk *walk = dbopt_chunk_walk_begin(count->log, count->snapshot,
												  count->event_type, chunk,
												  &chunk->from,
												  DBOPT_LOG_ROWS);
	DbOptLogEvent event;
	bool		more = true;

	CHECK_FOR_INTERRUPTS();
	while (more && dbopt_chunk_walk_next(walk, &event))
		more = count_event(count, &event);
	dbopt_chunk_walk_end(walk);
}

/* Events that are handed out, and not settled. */
static void
count_chunks(DbOptCount *count, int32 cursor_id)
{
	List	   *chunks = dbopt_chunks_of_cursor(count->log, cursor_id,
												count->snapshot);
	ListCell   *cell;

	foreach(cell, chunks)
	{
		DbOptChunk *chunk = lfirst(cell);

		count->handed_out += chunk->events;
		if (!is_enough(count) || may_be_first(count, chunk->from.position))
			count_chunk(count, chunk);
	}
}

/* The holes, and what is behind the cursor. */
static void
count_version(DbOptCount *count, const DbOptVersion *version)
{
	for (int i = 0; i < version->nholes; i++)
	{
		DbOptPlace	from = {version->holes[i] - 1, true, (Datum) 0};
		DbOptPlace	to = {version->holes[i], true, (Datum) 0};

		if (version->has_partial &&
			version->partial.position == version->holes[i])
			from = version->partial;
		if (!is_enough(count) || may_be_first(count, version->holes[i]))
			count_part(count, &from, &to);
	}
	if (!is_enough(count))
		count_part(count, &version->last, NULL);
}

DbOptBacklogRead *
dbopt_backlog_read_begin(const DbOptSource *source, DbOptDoubled doubled)
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
	reading->log->doubled_pass = doubled == DBOPT_DOUBLED_COUNT;
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

	memset(waiting, 0, sizeof(*waiting));
	waiting->exact = true;
	count->log = reading->log;
	count->snapshot = reading->snapshot;
	count->event_type = cursor->event_type;
	count->unprocessed = reading->unprocessed;

	if (!dbopt_version_read(count->log, cursor->cursor_id, count->snapshot,
							&version))
		return false;
	count_chunks(count, cursor->cursor_id);
	count_version(count, &version);
	if (estimate && !waiting->exact)
		waiting->events = Max(count->handed_out +
							  dbopt_waiting_estimate(count->log,
													 cursor->event_type,
													 &version),
							  count->limit + 1);
	return true;
}

bool
dbopt_waiting_count(const DbOptBacklogRead *reading,
					const DbOptCursor *cursor, DbOptWaiting *waiting)
{
	DbOptCount	count = {
		.waiting = waiting,
		.limit = DBOPT_WAITING_EXACT,
		.patience = PG_INT64_MAX
	};

	return count_cursor(&count, reading, cursor, true);
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
