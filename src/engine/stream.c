/*
 * stream.c
 *		Running the events of a chunk as they are read.
 *
 * Run by pool sessions, inside a subtransaction, with the chunk's row locked
 * and a snapshot that is newer than that lock.  No more than one event is in
 * memory at a time, in memory that the one before it has left: copying a slice
 * first, and giving the memory back after it, took longer than calling a
 * handler that does little.
 *
 * The scan begins and ends in the subtransaction, so that nothing of it is
 * left when the handler fails.
 */
#include "postgres.h"

#include "engine/stream.h"
#include "utils/memutils.h"

/* Keeps the place of the last event that was run. */
static void
set_done(DbOptStream *stream, const DbOptLogEvent *event)
{
	stream->done.position = event->position;
	stream->done.whole = false;
	stream->done.key = dbopt_log_key_copy(stream->source->log, event->key);
	stream->at_end = dbopt_slice_is_end(stream->source, &stream->done);
}

static void
call_for_event(DbOptCall *call, const DbOptLog *log,
			   const DbOptLogEvent *event)
{
	MemoryContext previous = MemoryContextSwitchTo(dbopt_call_begin(call));

	dbopt_call_row(call, dbopt_log_event_row(log, event));
	MemoryContextSwitchTo(previous);
}

void
dbopt_stream_run(void *arg)
{
	DbOptStream *stream = arg;
	const DbOptSliceSource *source = stream->source;
	DbOptChunkWalk *walk;
	DbOptLogEvent event;

	walk = dbopt_chunk_walk_begin(source->log, source->snapshot,
								  source->event_type, source->chunk,
								  &stream->from, DBOPT_LOG_ROWS);
	while (stream->count < stream->limit)
	{
		if (!dbopt_chunk_walk_next(walk, &event))
		{
			stream->at_end = true;
			break;
		}
		call_for_event(stream->call, source->log, &event);
		if (++stream->count == stream->limit)
			set_done(stream, &event);
	}
	dbopt_chunk_walk_end(walk);
}

bool
dbopt_stream_fits(const DbOptHandler *handler)
{
	return handler->argument_kind != DBOPT_ARGUMENT_ARRAY &&
		!handler->ordered && !handler->source->mark_processed;
}
