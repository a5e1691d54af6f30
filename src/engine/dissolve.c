/*
 * dissolve.c
 *		Making single events of a chunk that has crashed the server.
 *
 * Run by pool sessions, in one transaction: lock the events table, then the
 * chunk's row, take a new snapshot, write each of its events to the retry
 * queue as one that has not been tried, delete the chunk, commit durably.  An
 * ordered handler's events are held back there as others are, in their order.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/dissolve.h"
#include "engine/ordered.h"
#include "engine/slice.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static DbOptFailed *
untried_event(const DbOptSliceSource *source, const DbOptPlace *place)
{
	DbOptFailed *event = palloc0(sizeof(DbOptFailed));

	event->position = place->position;
	event->key = dbopt_log_key_to_text(source->log, place->key);
	event->event_type = pstrdup(source->event_type);
	event->suspicion = source->chunk->suspicion;
	event->untried = true;
	return event;
}

static void
queue_slice(DbOptDelivery *delivery, const DbOptSliceSource *source,
			const DbOptSlice *slice, DbOptQueue *queue)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < slice->count; i++)
	{
		DbOptFailed *event = untried_event(source, &slice->places[i]);

		event->retry_at = now;
		dbopt_queue_put(queue, delivery->handler->handler_id, event, now);
	}
}

static void
hold_slice(DbOptDelivery *delivery, const DbOptSliceSource *source,
		   const DbOptSlice *slice, DbOptQueue *queue)
{
	DbOptOrdered *ordered = dbopt_ordered_begin(delivery, source->log);
	int			i;

	for (i = 0; i < slice->count; i++)
		dbopt_ordered_add(ordered, untried_event(source, &slice->places[i]),
						  slice->rows[i]);
	dbopt_ordered_judge(ordered);
	while ((i = dbopt_ordered_next(ordered)) >= 0)
		dbopt_ordered_hold(ordered, i);
	dbopt_ordered_settle(ordered, queue);
}

/* A slice at a time is in memory. */
static void
dissolve(DbOptDelivery *delivery, const DbOptSliceSource *source)
{
	bool		ordered = delivery->handler->ordered;
	DbOptSlice *slice = palloc(sizeof(DbOptSlice));
	DbOptPlace	from = source->chunk->from;
	MemoryContext previous = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(previous, "dbopt slice",
												  ALLOCSET_DEFAULT_SIZES);
	DbOptQueue	queue;

	dbopt_queue_open(&queue);
	do
	{
		MemoryContextSwitchTo(context);
		dbopt_slice_fetch(slice, source, &from, ordered ?
						  DBOPT_SINGLE_BATCH : DBOPT_SLICE_EVENTS);
		if (ordered)
			hold_slice(delivery, source, slice, &queue);
		else
			queue_slice(delivery, source, slice, &queue);
		MemoryContextSwitchTo(previous);
		if (slice->count > 0)
		{
			from = slice->places[slice->count - 1];
			from.key = dbopt_log_key_copy(source->log, from.key);
		}
		MemoryContextReset(context);
	} while (!slice->is_last);
	MemoryContextDelete(context);
	dbopt_queue_close(&queue);
}

void
dbopt_chunk_dissolve(DbOptDelivery *delivery, const DbOptCursor *cursor,
					 int64 seq)
{
	DbOptSliceSource source = {0};
	DbOptFailure failure;
	DbOptChunk	chunk;

	dbopt_exec_begin();
	if (!dbopt_delivery_lock_table(delivery))
	{
		(void) dbopt_exec_commit(delivery->context, DBOPT_COMMIT_ASYNC, 0,
								 &failure);
		return;
	}
	source.log = dbopt_log_open_source(delivery->handler->source);
	source.event_type = cursor->event_type;
	source.chunk = &chunk;
	if (dbopt_chunk_lock(source.log, cursor->cursor_id, seq, &chunk))
	{
		source.snapshot = dbopt_log_snapshot(&source.log);
		dissolve(delivery, &source);
		dbopt_chunk_delete(&chunk);
		UnregisterSnapshot(source.snapshot);
	}
	dbopt_log_close(source.log);
	if (!dbopt_exec_commit(delivery->context, DBOPT_COMMIT_SYNC, 0,
						   &failure))
		dbopt_exec_raise_commit(&failure);
}
