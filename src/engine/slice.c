/*
 * slice.c
 *		Reading a slice of a chunk into memory.
 *
 * Run by pool sessions, with the chunk's row locked and a snapshot that is
 * newer than that lock.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "engine/mark.h"
#include "engine/slice.h"

static void
slice_add(DbOptSlice *slice, const DbOptLog *log, const DbOptLogEvent *event)
{
	Datum		row = dbopt_log_event_row(log, event);
	DbOptPlace *place = &slice->places[slice->count];

	slice->rows[slice->count] = row;
	slice->bytes += HeapTupleHeaderGetDatumLength(DatumGetHeapTupleHeader(row));
	place->position = event->position;
	place->whole = false;
	place->key = dbopt_log_key_copy(log, event->key);
	slice->count++;
}

void
dbopt_slice_fetch(DbOptSlice *slice, const DbOptSliceSource *source,
				  const DbOptPlace *from, int limit)
{
	DbOptLog   *log = source->log;
	DbOptChunkWalk *walk;
	DbOptLogEvent event;

	Assert(limit <= DBOPT_SLICE_EVENTS);
	slice->count = 0;
	slice->bytes = 0;
	slice->is_last = false;
	walk = dbopt_chunk_walk_begin(log, source->snapshot, source->event_type,
								  source->chunk, from, DBOPT_LOG_ROWS);
	while (slice->count < limit && slice->bytes < DBOPT_SLICE_BYTES)
	{
		if (!dbopt_chunk_walk_next(walk, &event))
		{
			slice->is_last = true;
			break;
		}
		if (!log->unprocessed_only ||
			dbopt_mark_lock(log, source->snapshot, &event))
			slice_add(slice, log, &event);
	}
	dbopt_chunk_walk_end(walk);
}

bool
dbopt_slice_is_end(const DbOptSliceSource *source, const DbOptPlace *place)
{
	const DbOptPlace *end = &source->chunk->to;

	return !end->whole && dbopt_log_same_event(source->log, place, end);
}
