/*
 * handed_out.c
 *		Whether an event has been handed out and its chunk is settled.
 *
 * Run by pool sessions, before the transaction settles anything.  Cursor and
 * chunks are read with one snapshot, without locks: a hand-out and the end of a
 * chunk change both at once.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "engine/chunk.h"
#include "engine/cursor.h"
#include "engine/handed_out.h"
#include "engine/position.h"
#include "engine/progress.h"
#include "utils/rel.h"

/* More than a session has in use at a time. */
#define CURSORS_OF_SESSION	1024

/* How far the handler is with one type of event. */
typedef struct Progress
{
	char	   *event_type;
	DbOptVersion version;		/* of the cursor, or where it will start */
	List	   *chunks;			/* of DbOptChunk *, not settled */
} Progress;

/* The order of keys, which is that of the log index. */
static int
compare_keys(const DbOptLog *log, Datum a, Datum b)
{
	Relation	index;

	if (log->nleaves == 0)
		return 0;
	index = log->leaves[0].index;
	return DatumGetInt32(FunctionCall2Coll(index_getprocinfo(index, 3,
															 BTORDER_PROC),
										   index->rd_indcollation[2], a, b));
}

/* Is an event's place not behind this one? */
static bool
is_up_to(const DbOptLog *log, const DbOptPlace *event, const DbOptPlace *place)
{
	if (event->position != place->position)
		return event->position < place->position;
	return place->whole || compare_keys(log, event->key, place->key) <= 0;
}

/* What this process knows of dead chunks (progress.h) goes with the configuration. */
static void
doubt_floors(void)
{
	static uint64 generation = 0;

	dbopt_chunks_floors_limit(CURSORS_OF_SESSION);
	if (generation != dbopt_config_generation())
		dbopt_chunks_floors_forget();
	generation = dbopt_config_generation();
}

static void
read_chunks(const DbOptOrdered *ordered, Progress *progress)
{
	const DbOptVersion *version = &progress->version;
	int64		floor = version->seq + 1;
	ListCell   *cell;

	doubt_floors();
	progress->chunks = dbopt_chunks_of_cursor(ordered->log, version->cursor_id,
											  ordered->snapshot);
	foreach(cell, progress->chunks)
		floor = Min(floor, ((DbOptChunk *) lfirst(cell))->seq);
	dbopt_chunks_floor_raise(version->cursor_id, floor);
}

/* Where the cursor of a type stands or, before it is met, will start. */
static void
read_progress(const DbOptOrdered *ordered, Progress *progress)
{
	const DbOptHandler *handler = ordered->delivery->handler;
	const DbOptSource *source = handler->source;
	int32		cursor_id =
	dbopt_cursor_find(source->source_id,
					  source->mark_processed ? 0 : handler->handler_id,
					  progress->event_type, ordered->snapshot);

	if (cursor_id != 0 &&
		dbopt_version_read(ordered->log, cursor_id, ordered->snapshot,
						   &progress->version))
	{
		read_chunks(ordered, progress);
		return;
	}
	progress->version.last.position = handler->start_position;
	progress->version.last.whole = true;
	progress->version.holes = handler->start_holes;
	progress->version.nholes = handler->nstart_holes;
}

static const Progress *
progress_of(const DbOptOrdered *ordered, List **known, const char *event_type)
{
	Progress   *progress;
	ListCell   *cell;

	foreach(cell, *known)
	{
		progress = lfirst(cell);
		if (strcmp(progress->event_type, event_type) == 0)
			return progress;
	}
	progress = palloc0(sizeof(Progress));
	progress->event_type = pstrdup(event_type);
	read_progress(ordered, progress);
	*known = lappend(*known, progress);
	return progress;
}

static bool
has_passed(const DbOptLog *log, const DbOptVersion *version,
		   const DbOptPlace *event)
{
	if (dbopt_position_in(event->position, version->holes, version->nholes))
		return version->has_partial &&
			version->partial.position == event->position &&
			is_up_to(log, event, &version->partial);
	return is_up_to(log, event, &version->last);
}

static bool
is_in_chunk(const DbOptLog *log, const DbOptChunk *chunk,
			const DbOptPlace *event)
{
	if (is_up_to(log, event, &chunk->from) ||
		!is_up_to(log, event, &chunk->to))
		return false;
	if (chunk->npositions > 0)
		return dbopt_position_in(event->position, chunk->positions,
								 chunk->npositions);
	return !dbopt_position_in(event->position, chunk->exclude,
							  chunk->nexclude);
}

bool
dbopt_is_handed_out(const DbOptOrdered *ordered, List **known,
					const char *event_type, int64 position, const char *key)
{
	const DbOptLog *log = ordered->log;
	const Progress *progress = progress_of(ordered, known, event_type);
	DbOptPlace	event = {position, false, (Datum) 0};
	ListCell   *cell;

	event.key = dbopt_log_key_from_text(log, key);
	if (!has_passed(log, &progress->version, &event))
		return false;
	foreach(cell, progress->chunks)
	{
		if (is_in_chunk(log, lfirst(cell), &event))
			return false;
	}
	return true;
}
