/*
 * queue_claim.c
 *		Finding and claiming rows of dbopt_retry_queue.
 *
 * Run by pool sessions, and without claiming by the scheduler.  A claimed retry
 * is locked by its row lock to the end of the transaction that runs it; a lock
 * that another session holds is never waited for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/queue.h"
#include "engine/suspect.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

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
		dbopt_queue_set_time(queue, tuple, now);
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
