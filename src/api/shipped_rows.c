/*
 * shipped_rows.c
 *		What the tables that ship with rows have in common.
 *
 * Run by their row triggers.  Shipped rows can be edited but not deleted; an
 * edited one from a dump takes the place of the one that CREATE EXTENSION has
 * just made; every process is told that something has changed.  Install and
 * upgrade scripts write what they like, but for the check.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "api/shipped_rows.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "engine/config.h"
#include "state/news.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dbopt_truncate_guard);

/* ---- reading a row ---- */

/* A text column; NULL for NULL. */
char *
dbopt_column_text(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

bool
dbopt_column_bool(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	return !isnull && DatumGetBool(value);
}

static HeapTuple
set_bool(HeapTuple row, TupleDesc desc, int column, bool value)
{
	Datum		datum = BoolGetDatum(value);
	bool		isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &column, &datum, &isnull);
}

/* ---- shipped rows ---- */

static bool
same_identity(const DbOptShippedTable *kind, TupleDesc desc, HeapTuple a,
			  HeapTuple b)
{
	for (int column = 1; column <= kind->identity; column++)
	{
		char	   *left = dbopt_column_text(a, desc, column);
		char	   *right = dbopt_column_text(b, desc, column);

		if ((left == NULL) != (right == NULL))
			return false;
		if (left != NULL && strcmp(left, right) != 0)
			return false;
	}
	return true;
}

/* Deletes the shipped row of the same identity.  false: there is none. */
static bool
delete_shipped(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	other;
	bool		found = false;

	while (!found && HeapTupleIsValid(other = systable_getnext(scan)))
	{
		found = dbopt_column_bool(other, desc, kind->shipped) &&
			same_identity(kind, desc, other, row);
		if (found)
			simple_heap_delete(rel, &other->t_self);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

bool
dbopt_inside_copy(void)
{
	return ActivePortal != NULL && ActivePortal->commandTag == CMDTAG_COPY;
}

/*
 * A row that comes from a dump takes a shipped one's place, and counts as an
 * edit of it from then on.  What was shipped once and is no more, is kept as
 * a row of the user's own.
 */
static HeapTuple
insert_row(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		replaces = false;

	if (dbopt_column_bool(row, desc, kind->shipped) || dbopt_inside_copy())
		replaces = delete_shipped(kind, rel, row);
	row = set_bool(row, desc, kind->shipped, replaces);
	return set_bool(row, desc, kind->edited, replaces);
}

static void
refuse_loss(const DbOptShippedTable *kind, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot %s a %s that belongs to the extension", what,
					kind->row_kind),
			 errhint("%s", kind->instead)));
}

static HeapTuple
update_row(const DbOptShippedTable *kind, Relation rel, HeapTuple old,
		   HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		shipped = dbopt_column_bool(old, desc, kind->shipped);

	if (!same_identity(kind, desc, old, row))
	{
		if (shipped)
			refuse_loss(kind, psprintf("change %s of", kind->identity_names));
		if (kind->check_unused != NULL)
			kind->check_unused(old, desc);
	}
	row = set_bool(row, desc, kind->shipped, shipped);
	return set_bool(row, desc, kind->edited, shipped);
}

static HeapTuple
delete_row(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (dbopt_column_bool(row, desc, kind->shipped))
		refuse_loss(kind, "delete");
	if (kind->check_unused != NULL)
		kind->check_unused(row, desc);
	return row;
}

/* ---- the triggers ---- */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(((TriggerData *) fcinfo->context)->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called as a BEFORE trigger")));
	return (TriggerData *) fcinfo->context;
}

Datum
dbopt_shipped_guard(const DbOptShippedTable *kind, FunctionCallInfo fcinfo)
{
	TriggerData *data = trigger_data(fcinfo);
	Relation	rel = data->tg_relation;
	bool		updated = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	row = updated ? data->tg_newtuple : data->tg_trigtuple;

	if (RelationGetRelid(rel) != dbopt_table_oid(kind->table) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger does not belong on table \"%s\"",
						RelationGetRelationName(rel))));

	if (!TRIGGER_FIRED_BY_DELETE(data->tg_event))
	{
		if (kind->complete != NULL && !creating_extension)
			row = kind->complete(row, RelationGetDescr(rel));
		kind->check(row, RelationGetDescr(rel));
	}
	if (!creating_extension)
	{
		if (updated)
			row = update_row(kind, rel, data->tg_trigtuple, row);
		else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
			row = delete_row(kind, rel, row);
		else
			row = insert_row(kind, rel, row);
	}

	dbopt_config_changed();
	dbopt_news_note_config();
	return PointerGetDatum(row);
}

/* TRUNCATE would take the shipped rows along. */
Datum
dbopt_truncate_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);

	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot truncate table \"%s\"",
					RelationGetRelationName(data->tg_relation)),
			 errhint("Delete rows of your own; those of the extension stay.")));
	return PointerGetDatum(NULL);
}
