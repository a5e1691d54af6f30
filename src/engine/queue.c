/*
 * queue.c
 *		Writing the rows of dbopt_retry_queue and dbopt_dead_letter.
 *
 * Run by pool sessions in the transaction that settles what it writes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "engine/catalog.h"
#include "engine/queue.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Bytes of an error message that are kept. */
#define ERROR_MESSAGE_MAX 4096

void
dbopt_queue_open(DbOptQueue *queue)
{
	queue->skipped = false;
	queue->retries = dbopt_table_open(DBOPT_RETRY_QUEUE, RowExclusiveLock);
	queue->retry_indexes = CatalogOpenIndexes(queue->retries);
	queue->dead = dbopt_table_open(DBOPT_DEAD_LETTER, RowExclusiveLock);
	queue->dead_indexes = CatalogOpenIndexes(queue->dead);
}

void
dbopt_queue_close(DbOptQueue *queue)
{
	CatalogCloseIndexes(queue->retry_indexes);
	table_close(queue->retries, NoLock);
	CatalogCloseIndexes(queue->dead_indexes);
	table_close(queue->dead, NoLock);
}

static Datum
message_datum(const char *message)
{
	int			length = strlen(message);

	length = pg_mbcliplen(message, length, ERROR_MESSAGE_MAX);
	return PointerGetDatum(cstring_to_text_with_len(message, length));
}

static HeapTuple
retry_form(TupleDesc desc, int32 handler_id, const DbOptFailed *failed,
		   TimestampTz now)
{
	Datum		values[Natts_retry];
	bool		nulls[Natts_retry] = {0};

	values[Anum_retry_handler_id - 1] = Int32GetDatum(handler_id);
	values[Anum_retry_log_position - 1] = Int64GetDatum(failed->position);
	values[Anum_retry_event_key - 1] = CStringGetTextDatum(failed->key);
	values[Anum_retry_event_type - 1] =
		CStringGetTextDatum(failed->event_type);
	values[Anum_retry_attempts - 1] = Int32GetDatum(failed->attempts);
	values[Anum_retry_next_retry_at - 1] =
		TimestampTzGetDatum(failed->retry_at);
	values[Anum_retry_first_failed_at - 1] =
		TimestampTzGetDatum(failed->first_failed_at ?
							failed->first_failed_at : now);
	values[Anum_retry_failed_at - 1] = TimestampTzGetDatum(now);
	values[Anum_retry_suspicion - 1] = Int32GetDatum(failed->suspicion);
	if (failed->failure.message == NULL)
		nulls[Anum_retry_error_code - 1] =
			nulls[Anum_retry_error_message - 1] = true;
	else
	{
		values[Anum_retry_error_code - 1] =
			CStringGetTextDatum(failed->failure.sqlstate);
		values[Anum_retry_error_message - 1] =
			message_datum(failed->failure.message);
	}
	return heap_form_tuple(desc, values, nulls);
}

static HeapTuple
dead_form(TupleDesc desc, int32 handler_id, const DbOptFailed *failed,
		  TimestampTz now)
{
	Datum		values[Natts_dead];
	bool		nulls[Natts_dead] = {0};

	values[Anum_dead_handler_id - 1] = Int32GetDatum(handler_id);
	values[Anum_dead_log_position - 1] = Int64GetDatum(failed->position);
	values[Anum_dead_event_key - 1] = CStringGetTextDatum(failed->key);
	values[Anum_dead_event_type - 1] = CStringGetTextDatum(failed->event_type);
	values[Anum_dead_attempts - 1] = Int32GetDatum(failed->attempts);
	values[Anum_dead_error_code - 1] =
		CStringGetTextDatum(failed->failure.sqlstate);
	values[Anum_dead_error_message - 1] =
		message_datum(failed->failure.message);
	values[Anum_dead_first_failed_at - 1] =
		TimestampTzGetDatum(failed->first_failed_at ?
							failed->first_failed_at : now);
	values[Anum_dead_failed_at - 1] = TimestampTzGetDatum(now);
	return heap_form_tuple(desc, values, nulls);
}

void
dbopt_queue_remove(DbOptQueue *queue, const DbOptFailed *failed)
{
	Assert(failed->queued);
	CatalogTupleDelete(queue->retries,
					   unconstify(ItemPointerData *, &failed->tid));
}

void
dbopt_queue_put(DbOptQueue *queue, int32 handler_id,
				const DbOptFailed *failed, TimestampTz now)
{
	HeapTuple	tuple;

	if (failed->retry_at == 0)
	{
		tuple = dead_form(RelationGetDescr(queue->dead), handler_id, failed,
						  now);
		if (failed->queued)
			dbopt_queue_remove(queue, failed);
		CatalogTupleInsertWithInfo(queue->dead, tuple, queue->dead_indexes);
	}
	else
	{
		tuple = retry_form(RelationGetDescr(queue->retries), handler_id,
						   failed, now);
		if (failed->queued)
			CatalogTupleUpdateWithInfo(queue->retries,
									   unconstify(ItemPointerData *,
												  &failed->tid),
									   tuple, queue->retry_indexes);
		else
			CatalogTupleInsertWithInfo(queue->retries, tuple,
									   queue->retry_indexes);
	}
	heap_freetuple(tuple);
}

void
dbopt_queue_set_time(DbOptQueue *queue, HeapTuple tuple, TimestampTz retry_at)
{
	int			column = Anum_retry_next_retry_at;
	Datum		value = TimestampTzGetDatum(retry_at);
	bool		isnull = false;
	HeapTuple	changed = heap_modify_tuple_by_cols(tuple,
													RelationGetDescr(queue->retries),
													1, &column, &value,
													&isnull);

	CatalogTupleUpdateWithInfo(queue->retries, &tuple->t_self, changed,
							   queue->retry_indexes);
	heap_freetuple(changed);
}

void
dbopt_queue_postpone(DbOptQueue *queue, const DbOptFailed *failed,
					 TimestampTz retry_at)
{
	TupleTableSlot *slot = table_slot_create(queue->retries, NULL);
	ItemPointerData tid = failed->tid;

	Assert(failed->queued);
	if (!table_tuple_fetch_row_version(queue->retries, &tid, SnapshotAny,
									   slot))
		elog(ERROR, "a claimed retry has gone");
	dbopt_queue_set_time(queue, ExecFetchSlotHeapTuple(slot, false, NULL), retry_at);
	ExecDropSingleTupleTableSlot(slot);
}
