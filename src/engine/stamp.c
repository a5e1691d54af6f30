/*
 * stamp.c
 *		dbopt_stamp(): the row trigger that gives events their log position.
 *
 * Run by every writer of an attached table, BEFORE INSERT, and BEFORE UPDATE
 * OF event_type, log_position and the key, in that order: the columns are
 * found by the trigger's own column list, which follows renames.  The position
 * is the top-level transaction's 64-bit id plus the database's offset,
 * whatever value came with the row.  A writer reads the offset after it has
 * locked the table, and whoever raises it locks out the writers, so that none
 * uses an old one.
 *
 * The trigger also notes the event type for the scheduler (news.h).  A BEFORE
 * trigger that sorts behind this one may still change the type: then every
 * type is noted.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "engine/config.h"
#include "fmgr.h"
#include "state/news.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* The trigger's columns, as places in tgattr. */
enum
{
	STAMP_EVENT_TYPE,
	STAMP_LOG_POSITION,
	STAMP_KEY,
	STAMP_COLUMNS
};

PG_FUNCTION_INFO_V1(dbopt_stamp);

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event) ||
		data->tg_trigger->tgnattr != STAMP_COLUMNS ||
		data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dbopt_stamp() was not called by a trigger that dbopt made"),
				 errhint("Use dbopt_attach_events() to attach a table.")));
}

/* Does an update leave all three columns as they are? */
static bool
row_is_unchanged(TriggerData *data)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	for (int i = 0; i < STAMP_COLUMNS; i++)
	{
		int			column = data->tg_trigger->tgattr[i];
		Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
		bool		old_null,
					new_null;
		Datum		old_value = heap_getattr(data->tg_trigtuple, column, desc,
											 &old_null);
		Datum		new_value = heap_getattr(data->tg_newtuple, column, desc,
											 &new_null);

		if (old_null != new_null)
			return false;
		if (!old_null && !datum_image_eq(old_value, new_value,
										 attribute->attbyval,
										 attribute->attlen))
			return false;
	}
	return true;
}

/* May a later trigger still change the row? */
static bool
another_trigger_follows(TriggerData *data)
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
note_event(TriggerData *data, Datum event_type)
{
	int32		source_id = pg_strtoint32(data->tg_trigger->tgargs[0]);
	struct varlena *type = PG_DETOAST_DATUM_PACKED(event_type);

	if (another_trigger_follows(data))
		dbopt_news_note_many();
	else
		dbopt_news_note(source_id, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
}

/*
 * Trigger function; its one argument is the source_id.  Returns the row with
 * its log_position set.
 */
Datum
dbopt_stamp(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	int			column;
	Datum		position,
				event_type;
	bool		isnull = false;

	check_call(fcinfo);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && row_is_unchanged(data))
		return PointerGetDatum(data->tg_newtuple);

	desc = RelationGetDescr(data->tg_relation);
	tuple = TRIGGER_FIRED_BY_INSERT(data->tg_event) ? data->tg_trigtuple :
		data->tg_newtuple;
	event_type = heap_getattr(tuple,
							  data->tg_trigger->tgattr[STAMP_EVENT_TYPE],
							  desc, &isnull);
	if (!isnull)
		note_event(data, event_type);

	column = data->tg_trigger->tgattr[STAMP_LOG_POSITION];
	position = Int64GetDatum(U64FromFullTransactionId(GetTopFullTransactionId()) +
							 dbopt_position_offset());
	isnull = false;
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, 1, &column,
													 &position, &isnull));
}
