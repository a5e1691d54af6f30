/*
 * pooled_rows.c
 *		Rows of a caller's SQL: as jsonb from the session to the caller.
 *
 * The session turns each row into jsonb and sends many of them together; the
 * caller copies them into its result.  Neither has more than a message of them
 * in memory.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "engine/pooled.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "tcop/dest.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define ENOUGH_BYTES	8192	/* are sent, be it one row or many */

typedef struct RowSender
{
	DestReceiver receiver;
	MemoryContext context;		/* of the sender */
	MemoryContext scratch;		/* of a row */
	TupleDesc	desc;
	FmgrInfo	to_jsonb;
	StringInfoData batch;
} RowSender;

/* ---- the session --------------------------------------------------------- */

/*
 * to_jsonb() finds the type of its argument in the expression it is called
 * by, so it gets one.
 */
static void
prepare_to_jsonb(FmgrInfo *function)
{
	Const	   *row = makeNullConst(RECORDOID, -1, InvalidOid);

	fmgr_info(F_TO_JSONB, function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(row), InvalidOid,
											 InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   function);
}

/*
 * The columns' names are those of the query, which are not always those of
 * the slots.
 */
static void
rows_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	RowSender  *sender = (RowSender *) self;
	MemoryContext previous = MemoryContextSwitchTo(sender->context);

	sender->desc = CreateTupleDescCopy(desc);
	sender->desc->tdtypeid = RECORDOID;
	sender->desc->tdtypmod = -1;
	BlessTupleDesc(sender->desc);
	MemoryContextSwitchTo(previous);
}

static void
send_batch(RowSender *sender)
{
	bool		sent;

	if (sender->batch.len == 0)
		return;
	sent = dbopt_pooled_wire_send(DBOPT_POOLED_ROWS, sender->batch.data,
								  sender->batch.len);
	resetStringInfo(&sender->batch);
	if (!sent)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the caller has gone")));
}

static void
add_row(RowSender *sender, Datum row)
{
	struct varlena *json;
	uint32		length;

	json = PG_DETOAST_DATUM(FunctionCall1(&sender->to_jsonb, row));
	length = VARSIZE(json);
	appendBinaryStringInfo(&sender->batch, (char *) &length, sizeof(length));
	appendBinaryStringInfo(&sender->batch, (char *) json, length);
}

static bool
rows_receive(TupleTableSlot *slot, DestReceiver *self)
{
	RowSender  *sender = (RowSender *) self;
	MemoryContext previous = MemoryContextSwitchTo(sender->scratch);
	HeapTuple	tuple;

	slot_getallattrs(slot);
	tuple = heap_form_tuple(sender->desc, slot->tts_values, slot->tts_isnull);
	add_row(sender, HeapTupleGetDatum(tuple));
	if (sender->batch.len >= ENOUGH_BYTES)
		send_batch(sender);
	MemoryContextSwitchTo(previous);
	MemoryContextReset(sender->scratch);
	return true;
}

static void
rows_shutdown(DestReceiver *self)
{
	send_batch((RowSender *) self);
}

static void
rows_destroy(DestReceiver *self)
{
	MemoryContextDelete(((RowSender *) self)->context);
}

DestReceiver *
dbopt_pooled_rows_create(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "dbopt rows",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	RowSender  *sender = palloc0(sizeof(RowSender));

	sender->receiver.receiveSlot = rows_receive;
	sender->receiver.rStartup = rows_startup;
	sender->receiver.rShutdown = rows_shutdown;
	sender->receiver.rDestroy = rows_destroy;
	sender->receiver.mydest = DestTuplestore;
	sender->context = context;
	sender->scratch = AllocSetContextCreate(context, "dbopt row",
											ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&sender->batch);
	prepare_to_jsonb(&sender->to_jsonb);
	MemoryContextSwitchTo(previous);
	return &sender->receiver;
}

/* ---- the caller ---------------------------------------------------------- */

/* The bytes in the message need not be aligned. */
void
dbopt_pooled_rows_store(const char *data, Size length, Tuplestorestate *store,
						TupleDesc desc)
{
	const char *end = data + length;

	while (data < end)
	{
		uint32		size;
		Datum		value;
		bool		isnull = false;
		char	   *json;

		memcpy(&size, data, sizeof(size));
		data += sizeof(size);
		json = palloc(size);
		memcpy(json, data, size);
		data += size;
		value = PointerGetDatum(json);
		tuplestore_putvalues(store, desc, &value, &isnull);
		pfree(json);
	}
}
