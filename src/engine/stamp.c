/*
 * stamp.c
 *		dbopt_stamp(): the row trigger that gives events their log position.
 *
 * Run by every writer of an attached table, BEFORE INSERT, and BEFORE UPDATE
 * OF event_type, log_position, the key and, where events are marked, processed,
 * in that order: the columns are found by the trigger's own column list, which
 * follows renames.  The position is the top-level transaction's 64-bit id plus
 * the database's offset, whatever value came with the row.  A writer reads the
 * offset after it has locked the table, and whoever raises it locks out the
 * writers, so that none uses an old one.
 *
 * An update that sets processed back to false stamps the row, too: the event
 * is delivered again.  One that logical replication applies has the position
 * that the row has on the other server, and leaves the one that it has here.
 *
 * A restore may load rows when the trigger is there already: schema and data
 * come apart.  Until dbopt_resume() a row that has a position and comes from the
 * table's owner therefore keeps it; all positions are below those that this database gives afterwards.
 *
 * An update that moves a row to another partition is a DELETE and an INSERT to
 * triggers.  On a partitioned table the trigger is therefore called BEFORE
 * DELETE as well and remembers the row that goes: one that comes with the same
 * type, position and key, right after it and in the same subtransaction, keeps
 * its position.  Since both happen or neither does, every snapshot sees that
 * event once, as with an update in place.
 *
 * The trigger also notes the event type for the scheduler (news.h).  A BEFORE
 * trigger that sorts behind this one may still change the type: then every
 * type is noted.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "engine/config.h"
#include "engine/log_index.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "state/news.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* The trigger's columns, as places in tgattr. */
enum
{
	STAMP_EVENT_TYPE,
	STAMP_LOG_POSITION,
	STAMP_KEY,
	STAMP_COLUMNS,
	STAMP_PROCESSED = STAMP_COLUMNS,	/* of a mark_processed source */
	STAMP_MARKING_COLUMNS
};

/* The row that the present transaction has deleted last. */
static struct
{
	TransactionId transaction;	/* another one: there is no such row */
	MemoryContext context;		/* of the values; goes with the transaction */
	SubTransactionId subtransaction;
	CommandId	command;
	int32		source_id;		/* 0: there is no such row */
	Oid			key_type;
	bool		isnull[STAMP_COLUMNS];
	Datum		values[STAMP_COLUMNS];
}			deleted;

PG_FUNCTION_INFO_V1(dbopt_stamp);

static Form_pg_attribute
stamp_attribute(const TriggerData *data, int i)
{
	return TupleDescAttr(RelationGetDescr(data->tg_relation),
						 data->tg_trigger->tgattr[i] - 1);
}

/* Anybody may make a trigger of it, on columns of any type. */
static bool
columns_fit(const TriggerData *data)
{
	int			count = data->tg_trigger->tgnattr;

	return (count == STAMP_COLUMNS ||
			(count == STAMP_MARKING_COLUMNS &&
			 stamp_attribute(data, STAMP_PROCESSED)->atttypid == BOOLOID)) &&
		dbopt_type_is_text(stamp_attribute(data, STAMP_EVENT_TYPE)->atttypid) &&
		stamp_attribute(data, STAMP_LOG_POSITION)->atttypid == INT8OID;
}

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		data->tg_trigger->tgnargs != 1 ||
		!columns_fit(data))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dbopt_stamp() was not called by a trigger that dbopt made"),
				 errhint("Use dbopt_attach_events() to attach a table.")));
}

static int32
source_of(const TriggerData *data)
{
	return pg_strtoint32(data->tg_trigger->tgargs[0]);
}

static Datum
stamp_value(const TriggerData *data, HeapTuple tuple, int i, bool *isnull)
{
	return heap_getattr(tuple, data->tg_trigger->tgattr[i],
						RelationGetDescr(data->tg_relation), isnull);
}

/* Has the row this value, in one of the three columns? */
static bool
has_value(const TriggerData *data, HeapTuple tuple, int i, Datum value,
		  bool isnull)
{
	Form_pg_attribute attribute = stamp_attribute(data, i);
	bool		own_null;
	Datum		own = stamp_value(data, tuple, i, &own_null);

	if (isnull || own_null)
		return isnull && own_null;
	return datum_image_eq(own, value, attribute->attbyval,
						  attribute->attlen);
}

static bool
is_processed(const TriggerData *data, HeapTuple tuple)
{
	bool		isnull;
	Datum		value = stamp_value(data, tuple, STAMP_PROCESSED, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Does the row come from another server, with a position of that one's? */
static bool
row_is_replicated(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/* Does an update leave the event where it is? */
static bool
row_is_unchanged(const TriggerData *data)
{
	for (int i = 0; i < STAMP_COLUMNS; i++)
	{
		bool		isnull;
		Datum		value = stamp_value(data, data->tg_trigtuple, i, &isnull);

		if (i == STAMP_LOG_POSITION && row_is_replicated())
			continue;
		if (!has_value(data, data->tg_newtuple, i, value, isnull))
			return false;
	}
	return data->tg_trigger->tgnattr != STAMP_MARKING_COLUMNS ||
		!is_processed(data, data->tg_trigtuple) ||
		is_processed(data, data->tg_newtuple);
}

static void
remember_deleted(const TriggerData *data)
{
	TransactionId transaction = GetTopTransactionId();
	MemoryContext previous;

	if (deleted.transaction == transaction)
		MemoryContextReset(deleted.context);
	else
		deleted.context = AllocSetContextCreate(TopTransactionContext,
												"dbopt deleted event",
												ALLOCSET_SMALL_SIZES);
	deleted.transaction = transaction;
	deleted.subtransaction = GetCurrentSubTransactionId();
	deleted.command = GetCurrentCommandId(false);
	deleted.source_id = source_of(data);
	deleted.key_type = stamp_attribute(data, STAMP_KEY)->atttypid;
	previous = MemoryContextSwitchTo(deleted.context);
	for (int i = 0; i < STAMP_COLUMNS; i++)
	{
		Form_pg_attribute attribute = stamp_attribute(data, i);
		Datum		value = stamp_value(data, data->tg_trigtuple, i,
										&deleted.isnull[i]);

		if (!deleted.isnull[i])
			deleted.values[i] = datumCopy(value, attribute->attbyval,
										  attribute->attlen);
	}
	MemoryContextSwitchTo(previous);
}

/*
 * Is this insert the other half of a move to another partition?  A replicated
 * one comes with the other server's position, but in the same command.
 */
static bool
row_has_moved(const TriggerData *data)
{
	bool		moved = deleted.source_id != 0 &&
	deleted.source_id == source_of(data) &&
	deleted.key_type == stamp_attribute(data, STAMP_KEY)->atttypid &&
	deleted.transaction == GetTopTransactionIdIfAny() &&
	deleted.subtransaction == GetCurrentSubTransactionId() &&
	(!row_is_replicated() || deleted.command == GetCurrentCommandId(false));

	for (int i = 0; i < STAMP_COLUMNS && moved; i++)
		moved = (i == STAMP_LOG_POSITION && row_is_replicated()) ||
			has_value(data, data->tg_trigtuple, i, deleted.values[i],
					  deleted.isnull[i]);
	deleted.source_id = 0;
	return moved;
}

/*
 * Is this a row of another database, which knows whether it is delivered?
 * Only the table's owner may say so, who could do without the trigger, too;
 * what a subscription brings is new here.
 */
static bool
row_is_restored(const TriggerData *data)
{
	bool		isnull;
	Datum		position = stamp_value(data, data->tg_trigtuple,
									   STAMP_LOG_POSITION, &isnull);

	return !isnull && DatumGetInt64(position) > 0 && !IsLogicalWorker() &&
		dbopt_positions_foreign() &&
		has_privs_of_role(GetUserId(),
						  data->tg_relation->rd_rel->relowner);
}

/* May a later trigger still change the row? */
static bool
another_trigger_follows(const TriggerData *data)
{
	TriggerDesc *triggers = data->tg_relation->trigdesc;
	bool		passed = false;

	if (triggers == NULL)
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgoid == data->tg_trigger->tgoid)
			passed = true;
		else if (passed && TRIGGER_FOR_ROW(trigger->tgtype) &&
				 TRIGGER_FOR_BEFORE(trigger->tgtype))
			return true;
	}
	return false;
}

static void
note_event(const TriggerData *data, Datum event_type)
{
	struct varlena *type = PG_DETOAST_DATUM_PACKED(event_type);

	if (another_trigger_follows(data))
		dbopt_news_note_many();
	else
		dbopt_news_note(source_of(data), VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
}

static HeapTuple
with_position(const TriggerData *data, HeapTuple tuple, Datum position,
			  bool isnull)
{
	int			column = data->tg_trigger->tgattr[STAMP_LOG_POSITION];

	return heap_modify_tuple_by_cols(tuple,
									 RelationGetDescr(data->tg_relation),
									 1, &column, &position, &isnull);
}

/* The row with the present transaction's position; notes the event. */
static HeapTuple
stamp(const TriggerData *data, HeapTuple tuple)
{
	bool		isnull;
	Datum		event_type = stamp_value(data, tuple, STAMP_EVENT_TYPE,
										 &isnull);
	int64		position;

	if (!isnull)
		note_event(data, event_type);
	position = U64FromFullTransactionId(GetTopFullTransactionId()) +
		dbopt_position_offset();
	return with_position(data, tuple, Int64GetDatum(position), false);
}

static HeapTuple
stamp_updated(const TriggerData *data)
{
	HeapTuple	tuple = data->tg_newtuple;
	bool		isnull;
	Datum		position;

	if (!row_is_unchanged(data))
		return stamp(data, tuple);
	if (!row_is_replicated())
		return tuple;
	position = stamp_value(data, data->tg_trigtuple, STAMP_LOG_POSITION,
						   &isnull);
	return with_position(data, tuple, position, isnull);
}

static HeapTuple
stamp_inserted(const TriggerData *data)
{
	HeapTuple	tuple = data->tg_trigtuple;

	if (row_has_moved(data))
		return row_is_replicated() ?
			with_position(data, tuple, deleted.values[STAMP_LOG_POSITION],
						  deleted.isnull[STAMP_LOG_POSITION]) : tuple;
	return row_is_restored(data) ? tuple : stamp(data, tuple);
}

/*
 * Trigger function; its one argument is the source_id.  Returns the row with
 * its log_position set.
 */
Datum
dbopt_stamp(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	check_call(fcinfo);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return PointerGetDatum(stamp_updated(data));
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(stamp_inserted(data));
	remember_deleted(data);
	return PointerGetDatum(data->tg_trigtuple);
}
