/*
 * attempt.c
 *		The rows of dbopt_attempt: suspects of a crash that are being run with
 *		nothing else beside them.
 *
 * Run by pool sessions.  A row is committed durably before its attempt begins
 * and deleted by the transaction that settles it, so that after a crash it
 * tells what was being run.  A session that is terminated takes its attempt
 * back before it leaves: an end that was wanted counts against nobody.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "common/pg_prng.h"
#include "engine/attempt.h"
#include "engine/catalog.h"
#include "state/shmem.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static int64 present_token = 0; /* of this session's attempt; 0: none */
static bool callback_registered = false;

static SysScanDesc
token_scan_begin(Relation rel, Snapshot snapshot, int64 token)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_attempt_token, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(token));
	return systable_beginscan(rel, dbopt_table_index_oid(DBOPT_ATTEMPT), true,
							  snapshot, 1, &key);
}

static void
delete_row(int64 token)
{
	Relation	rel = dbopt_table_open(DBOPT_ATTEMPT, RowExclusiveLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = token_scan_begin(rel, snapshot, token);
	HeapTuple	tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

void
dbopt_attempt_take_back(void)
{
	int64		token = present_token;

	if (token == 0)
		return;
	present_token = 0;
	StartTransactionCommand();
	delete_row(token);
	CommitTransactionCommand();
}

/* Before the session leaves, while it can still use its database. */
static void
take_back_at_exit(int code, Datum arg)
{
	if (present_token == 0)
		return;
	AbortOutOfAnyTransaction();
	dbopt_attempt_take_back();
}

static HeapTuple
attempt_form(TupleDesc desc, const DbOptAttempt *attempt)
{
	Datum		values[Natts_attempt] = {0};
	bool		nulls[Natts_attempt] = {0};
	bool		chunk = attempt->cursor_id != 0;
	bool		event = attempt->key != NULL;

	values[Anum_attempt_token - 1] = Int64GetDatum(attempt->token);
	values[Anum_attempt_incarnation - 1] =
		Int64GetDatum(dbopt_shared->incarnation);
	values[Anum_attempt_handler_id - 1] = Int32GetDatum(attempt->handler_id);
	nulls[Anum_attempt_cursor_id - 1] = nulls[Anum_attempt_seq - 1] = !chunk;
	values[Anum_attempt_cursor_id - 1] = Int32GetDatum(attempt->cursor_id);
	values[Anum_attempt_seq - 1] = Int64GetDatum(attempt->seq);
	nulls[Anum_attempt_log_position - 1] =
		nulls[Anum_attempt_event_key - 1] = !event;
	values[Anum_attempt_log_position - 1] = Int64GetDatum(attempt->position);
	if (event)
		values[Anum_attempt_event_key - 1] =
			CStringGetTextDatum(attempt->key);
	values[Anum_attempt_crashed - 1] = BoolGetDatum(false);
	values[Anum_attempt_started_at - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	return heap_form_tuple(desc, values, nulls);
}

static DbOptAttempt *
attempt_read(HeapTuple tuple, TupleDesc desc)
{
	Datum		values[Natts_attempt];
	bool		nulls[Natts_attempt];
	DbOptAttempt *attempt = palloc0(sizeof(DbOptAttempt));

	heap_deform_tuple(tuple, desc, values, nulls);
	attempt->token = DatumGetInt64(values[Anum_attempt_token - 1]);
	attempt->handler_id = DatumGetInt32(values[Anum_attempt_handler_id - 1]);
	attempt->crashed = DatumGetBool(values[Anum_attempt_crashed - 1]);
	if (!nulls[Anum_attempt_event_key - 1])
	{
		attempt->position =
			DatumGetInt64(values[Anum_attempt_log_position - 1]);
		attempt->key = TextDatumGetCString(values[Anum_attempt_event_key - 1]);
	}
	return attempt;
}

/*
 * An earlier attempt of the same event, whose session had no memory left to take
 * it back, would count as a crash after the next one.
 */
static void
delete_earlier(Relation rel, const DbOptAttempt *attempt)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		DbOptAttempt *earlier = attempt_read(tuple, RelationGetDescr(rel));

		if (!earlier->crashed && earlier->key != NULL &&
			earlier->handler_id == attempt->handler_id &&
			earlier->position == attempt->position &&
			strcmp(earlier->key, attempt->key) == 0)
			CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
}

void
dbopt_attempt_begin(DbOptAttempt *attempt)
{
	Relation	rel = dbopt_table_open(DBOPT_ATTEMPT, RowExclusiveLock);
	HeapTuple	tuple;

	if (!callback_registered)
	{
		before_shmem_exit(take_back_at_exit, (Datum) 0);
		callback_registered = true;
	}
	if (attempt->key != NULL)
		delete_earlier(rel, attempt);
	attempt->token =
		(int64) (pg_prng_uint64(&pg_global_prng_state) >> 1) | 1;
	tuple = attempt_form(RelationGetDescr(rel), attempt);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	present_token = attempt->token;
}

void
dbopt_attempt_end(const DbOptAttempt *attempt)
{
	if (attempt != NULL)
		delete_row(attempt->token);
}

void
dbopt_attempt_forget(void)
{
	present_token = 0;
}

bool
dbopt_attempt_holds(const DbOptAttempt *attempt)
{
	Relation	rel = dbopt_table_open(DBOPT_ATTEMPT, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = token_scan_begin(rel, snapshot, attempt->token);
	bool		found = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return found;
}

DbOptAttempt *
dbopt_attempt_crashed(int32 handler_id)
{
	Relation	rel = dbopt_table_open(DBOPT_ATTEMPT, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	DbOptAttempt *found = NULL;
	HeapTuple	tuple;

	while (found == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		found = attempt_read(tuple, RelationGetDescr(rel));
		if (!found->crashed || found->key == NULL ||
			found->handler_id != handler_id)
			found = NULL;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return found;
}
