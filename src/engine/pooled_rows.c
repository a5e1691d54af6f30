/*
 * pooled_rows.c
 *		Rows of a caller's SQL: as jsonb from the session to the caller.
 *
 * The session turns each row into jsonb and sends many of them together; the
 * caller copies them into its result.  Neither has more than a message of them
 * in memory.  In a message each row begins at a multiple of 4.
 */
#include "postgres.h"

#include "engine/pooled.h"
#include "engine/row_jsonb.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "tcop/dest.h"
#include "utils/memutils.h"

#define ENOUGH_BYTES	8192	/* are sent, be it one row or many */

typedef struct RowSender
{
	DestReceiver receiver;
	MemoryContext context;		/* of the sender */
	MemoryContext scratch;		/* of a row */
	DbOptRowJsonb *rows;
	StringInfoData batch;		/* with room for the type in front */
} RowSender;

/* ---- the session --------------------------------------------------------- */

static void
begin_batch(RowSender *sender)
{
	static const char start[DBOPT_POOLED_ROWS_START] = {0};

	resetStringInfo(&sender->batch);
	appendBinaryStringInfoNT(&sender->batch, start, sizeof(start));
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

	sender->rows = dbopt_row_jsonb_make(desc);
	MemoryContextSwitchTo(previous);
}

static void
send_batch(RowSender *sender)
{
	bool		sent;

	if (sender->batch.len == DBOPT_POOLED_ROWS_START)
		return;
	sent = dbopt_pooled_wire_send(DBOPT_POOLED_ROWS, sender->batch.data + 1,
								  sender->batch.len - 1);
	begin_batch(sender);
	if (!sent)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the caller has gone")));
}

static bool
rows_receive(TupleTableSlot *slot, DestReceiver *self)
{
	RowSender  *sender = (RowSender *) self;
	MemoryContext previous = MemoryContextSwitchTo(sender->scratch);

	slot_getallattrs(slot);
	dbopt_row_jsonb_append(sender->rows, slot->tts_values, slot->tts_isnull,
						   &sender->batch);
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
	begin_batch(sender);
	MemoryContextSwitchTo(previous);
	return &sender->receiver;
}

/* ---- the caller ---------------------------------------------------------- */

void
dbopt_pooled_rows_store(const char *message, Size length,
						Tuplestorestate *store, TupleDesc desc)
{
	Size		place = DBOPT_POOLED_ROWS_START;
	bool		isnull = false;

	while (place < length)
	{
		Datum		row = PointerGetDatum(message + place);

		tuplestore_putvalues(store, desc, &row, &isnull);
		place += INTALIGN(VARSIZE(DatumGetPointer(row)));
	}
}
