/*
 * queue.c
 *		The rows of dbopt_retry_queue and dbopt_dead_letter.
 *
 * Run by pool sessions in the transaction that settles what it writes.  A
 * claimed retry is locked by its row lock to the end of the transaction that
 * runs it; a lock that another session holds is never waited for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/cursor.h"
#include "engine/queue.h"
#include "engine/suspect.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
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

static void
set_retry_at(DbOptQueue *queue, HeapTuple tuple, TimestampTz retry_at)
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
	set_retry_at(queue, ExecFetchSlotHeapTuple(slot, false, NULL), retry_at);
	ExecDropSingleTupleTableSlot(slot);
}

/* The scan for one event. */
static SysScanDesc
event_scan_begin(Relation rel, Snapshot snapshot, int32 handler_id,
				 int64 position, const char *key)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], Anum_retry_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[1], Anum_retry_log_position, BTEqualStrategyNumber,
				F_INT8EQ, Int64GetDatum(position));
	ScanKeyInit(&keys[2], Anum_retry_event_key, BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(key));
	return systable_beginscan(rel, dbopt_table_index_oid(DBOPT_RETRY_QUEUE),
							  true, snapshot, lengthof(keys), keys);
}

bool
dbopt_queue_has(int32 handler_id, int64 position, const char *key,
				Snapshot snapshot)
{
	Relation	rel = dbopt_table_open(DBOPT_RETRY_QUEUE, AccessShareLock);
	SysScanDesc scan = event_scan_begin(rel, snapshot, handler_id, position,
										key);
	bool		found = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(rel, NoLock);
	return found;
}

/* Locks the retry in a tuple; false: another session has it. */
static bool
lock_tuple(DbOptQueue *queue, Snapshot snapshot, HeapTuple tuple)
{
	TupleTableSlot *slot = table_slot_create(queue->retries, NULL);
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_lock(queue->retries, &tuple->t_self, snapshot, slot,
							  GetCurrentCommandId(false), LockTupleExclusive,
							  LockWaitSkip, 0, &failure);
	ExecDropSingleTupleTableSlot(slot);
	queue->skipped = queue->skipped || result == TM_WouldBlock;
	return result == TM_Ok;
}

static DbOptReleased
release_tuple(DbOptQueue *queue, Snapshot snapshot, HeapTuple tuple,
			  bool untried, TimestampTz now)
{
	TupleDesc	desc = RelationGetDescr(queue->retries);
	bool		isnull;
	TimestampTz at;
	bool		tried;

	at = DatumGetTimestampTz(heap_getattr(tuple, Anum_retry_next_retry_at,
										  desc, &isnull));
	tried = DatumGetInt32(heap_getattr(tuple, Anum_retry_attempts, desc,
									   &isnull)) > 0;
	if (at <= now)
		return DBOPT_RELEASED_DUE;
	if (at != DT_NOEND && (tried || !untried))
		return DBOPT_RELEASED_LATER;
	if (lock_tuple(queue, snapshot, tuple))
		set_retry_at(queue, tuple, now);
	return DBOPT_RELEASED_DUE;
}

DbOptReleased
dbopt_queue_release(DbOptQueue *queue, int32 handler_id, int64 position,
					const char *key, bool untried, TimestampTz now)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = event_scan_begin(queue->retries, snapshot, handler_id,
										position, key);
	HeapTuple	tuple = systable_getnext(scan);
	DbOptReleased released = DBOPT_RELEASED_NONE;

	if (HeapTupleIsValid(tuple))
		released = release_tuple(queue, snapshot, tuple, untried, now);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return released;
}

static DbOptFailed *
failed_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	Datum		values[Natts_retry];
	bool		nulls[Natts_retry];
	DbOptFailed *failed = palloc0(sizeof(DbOptFailed));

	heap_deform_tuple(tuple, desc, values, nulls);
	failed->position = DatumGetInt64(values[Anum_retry_log_position - 1]);
	failed->key = TextDatumGetCString(values[Anum_retry_event_key - 1]);
	failed->event_type = TextDatumGetCString(values[Anum_retry_event_type - 1]);
	failed->attempts = DatumGetInt32(values[Anum_retry_attempts - 1]);
	failed->untried = nulls[Anum_retry_error_code - 1];
	failed->suspicion = DatumGetInt32(values[Anum_retry_suspicion - 1]);
	if (!failed->untried)
		failed->first_failed_at =
			DatumGetTimestampTz(values[Anum_retry_first_failed_at - 1]);
	failed->retry_at =
		DatumGetTimestampTz(values[Anum_retry_next_retry_at - 1]);
	failed->queued = true;
	failed->tid = tuple->t_self;
	return failed;
}

/* The scan over a handler's retries with times in a direction from "bound". */
static SysScanDesc
due_scan_begin(Relation rel, Relation index, Snapshot snapshot,
			   int32 handler_id, StrategyNumber strategy,
			   RegProcedure procedure, TimestampTz bound)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_retry_handler_id, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(handler_id));
	ScanKeyInit(&keys[1], Anum_retry_next_retry_at, strategy, procedure,
				TimestampTzGetDatum(bound));
	return systable_beginscan_ordered(rel, index, snapshot, lengthof(keys),
									  keys);
}

List *
dbopt_queue_claim(DbOptQueue *queue, int32 handler_id, int suspicion,
				  TimestampTz since, TimestampTz now, int limit)
{
	Relation	index = index_open(dbopt_retry_due_index_oid(),
								   AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = due_scan_begin(queue->retries, index, snapshot,
									  handler_id, BTGreaterEqualStrategyNumber,
									  F_TIMESTAMPTZ_GE, since);
	List	   *claimed = NIL;
	HeapTuple	tuple;

	while (list_length(claimed) < limit &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan,
															 ForwardScanDirection)))
	{
		DbOptFailed *failed = failed_from_tuple(tuple,
												RelationGetDescr(queue->retries));

		if (failed->retry_at > now)
			break;
		if (failed->suspicion == suspicion &&
			lock_tuple(queue, snapshot, tuple))
			claimed = lappend(claimed, failed);
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	return claimed;
}

DbOptFailed *
dbopt_queue_claim_again(DbOptQueue *queue, int32 handler_id,
						const DbOptFailed *failed)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = event_scan_begin(queue->retries, snapshot, handler_id,
										failed->position, failed->key);
	HeapTuple	tuple = systable_getnext(scan);
	DbOptFailed *claimed = NULL;

	if (HeapTupleIsValid(tuple) && lock_tuple(queue, snapshot, tuple))
		claimed = failed_from_tuple(tuple, RelationGetDescr(queue->retries));
	if (claimed != NULL && (claimed->attempts != failed->attempts ||
							claimed->retry_at != failed->retry_at))
		claimed = NULL;
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return claimed;
}

List *
dbopt_queue_claim_event(DbOptQueue *queue, int32 handler_id, int64 position,
						const char *key)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = event_scan_begin(queue->retries, snapshot, handler_id,
										position, key);
	HeapTuple	tuple = systable_getnext(scan);
	List	   *claimed = NIL;

	if (HeapTupleIsValid(tuple) && lock_tuple(queue, snapshot, tuple))
		claimed = list_make1(failed_from_tuple(tuple,
											   RelationGetDescr(queue->retries)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return claimed;
}

DbOptFailed *
dbopt_queue_claim_held(DbOptQueue *queue, int32 handler_id, int64 position,
					   const char *key, TimestampTz now)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = event_scan_begin(queue->retries, snapshot, handler_id,
										position, key);
	HeapTuple	tuple = systable_getnext(scan);
	DbOptFailed *claimed = NULL;

	if (HeapTupleIsValid(tuple))
		claimed = failed_from_tuple(tuple, RelationGetDescr(queue->retries));
	if (claimed != NULL &&
		(claimed->suspicion != 0 ||
		 (claimed->retry_at > now && claimed->retry_at != DT_NOEND &&
		  claimed->attempts > 0) ||
		 !lock_tuple(queue, snapshot, tuple)))
		claimed = NULL;
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return claimed;
}

/*
 * The handler's first retry behind "after" that is under suspicion, or that is
 * under none; NULL: there is none.
 */
static DbOptFailed *
first_behind(int32 handler_id, TimestampTz after, int lowest, int highest)
{
	Relation	rel = dbopt_table_open(DBOPT_RETRY_QUEUE, AccessShareLock);
	Relation	index = index_open(dbopt_retry_due_index_oid(),
								   AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = due_scan_begin(rel, index, snapshot, handler_id,
									  BTGreaterStrategyNumber,
									  F_TIMESTAMPTZ_GT, after);
	HeapTuple	tuple;
	DbOptFailed *first = NULL;

	while (first == NULL &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan,
															 ForwardScanDirection)))
	{
		first = failed_from_tuple(tuple, RelationGetDescr(rel));
		if (first->suspicion < lowest || first->suspicion > highest)
			first = NULL;
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return first;
}

TimestampTz
dbopt_queue_next(int32 handler_id, TimestampTz after)
{
	DbOptFailed *first = first_behind(handler_id, after, 0, 0);

	return first == NULL ? PG_INT64_MAX : first->retry_at;
}

DbOptFailed *
dbopt_queue_suspect(int32 handler_id, int highest, TimestampTz now)
{
	DbOptFailed *first = first_behind(handler_id, DT_NOBEGIN,
									  DBOPT_SUSPECT_GROUP, highest);

	return first != NULL && first->retry_at <= now ? first : NULL;
}

TimestampTz
dbopt_retry_first_due(int32 handler_id)
{
	return dbopt_queue_next(handler_id, DT_NOBEGIN);
}
