/*
 * index_guard.c
 *		Row triggers of dbopt_index and dbopt_index_state.
 *
 * Run by whoever writes these tables, and by a restore.  A declaration that
 * can never be built is refused: what does not parse, a name that cannot be
 * given, a table that cannot have indexes or is not the author's.  One that
 * cannot be built at present brings a warning.  A restore is held to what does
 * not depend on the rest of the database.
 *
 * The author of a row is kept with it, unless a superuser writes it: the index
 * is built only while its author owns the table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/shipped_rows.h"
#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "compat.h"
#include "engine/index_parse.h"
#include "engine/index_row.h"
#include "engine/index_state.h"
#include "engine/index_target.h"
#include "miscadmin.h"
#include "state/guc.h"
#include "state/news.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(dbopt_index_guard);
PG_FUNCTION_INFO_V1(dbopt_index_state_guard);

/* ---- dbopt_index --------------------------------------------------------- */

static HeapTuple
set_author(HeapTuple row, TupleDesc desc)
{
	char	   *author = superuser() ?
	dbopt_column_text(row, desc, Anum_index_author) :
	GetUserNameFromId(GetUserId(), false);
	Oid			oid = author != NULL ? get_role_oid(author, true) : InvalidOid;
	int			columns[] = {Anum_index_author, Anum_index_author_oid};
	Datum		values[2];
	bool		nulls[2] = {author == NULL, author == NULL};

	values[0] = author != NULL ? CStringGetTextDatum(author) : (Datum) 0;
	values[1] = ObjectIdGetDatum(oid);
	return heap_modify_tuple_by_cols(row, desc, 2, columns, values, nulls);
}

/* What is wrong with the row wherever it stands is an error. */
static void
check_texts(const DbOptIndexRow *row)
{
	const char *source;
	char	   *schema;
	char	   *name;
	ListCell   *cell;

	dbopt_index_check_name(row->name);
	dbopt_index_table_name(row->table_name, &schema, &name);
	(void) dbopt_index_parse(row->definition, &source);
	foreach(cell, row->alternatives)
		(void) dbopt_index_parse(lfirst(cell), &source);
}

static void
check_table(const DbOptIndexRow *row)
{
	Oid			relid = dbopt_index_table_find(row->table_name);
	const char *unfit;

	if (!OidIsValid(relid))
		return;
	unfit = dbopt_index_unfit(relid);
	if (unfit != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" %s", get_rel_name(relid), unfit),
				 errhint("Indexes can be declared for tables, partitioned tables and materialized views.")));
	if (row->author != NULL && !dbopt_owns_class(relid, row->author_oid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" must be owner of table \"%s\"",
						row->author, get_rel_name(relid))));
}

static void
warn(const DbOptIndexRow *row)
{
	DbOptIndexTarget target;

	dbopt_index_examine(row, &target);
	if (row->enabled && OidIsValid(target.relid) &&
		target.condition == DBOPT_INDEX_INAPPLICABLE)
		ereport(WARNING,
				(errmsg("index \"%s\" cannot be built at present: %s",
						row->name, target.reason)));
}

/* A dump says that functions are not to be checked, either. */
static bool
restoring(void)
{
	return dbopt_inside_copy() || !check_function_bodies;
}

static void
check_index(HeapTuple tuple, TupleDesc desc)
{
	DbOptIndexRow *row = dbopt_index_row_read(tuple, desc);

	if (row->name == NULL || row->table_name == NULL ||
		row->definition == NULL)
		return;					/* refused as NULL */
	check_texts(row);
	if (creating_extension || restoring())
		return;
	check_table(row);
	warn(row);
	if (dbopt_auto_index)
		dbopt_news_note_tables();
}

static const DbOptShippedTable indexes = {
	DBOPT_INDEX, "declaration", "the name", 1,
	Anum_index_shipped, Anum_index_edited,
	check_index, NULL,
	"Set its column enabled to false, or edit it.", set_author
};

Datum
dbopt_index_guard(PG_FUNCTION_ARGS)
{
	return dbopt_shipped_guard(&indexes, fcinfo);
}

/* ---- dbopt_index_state --------------------------------------------------- */

/*
 * dbopt writes this table past its triggers: an INSERT is a restore's.  The
 * index has another OID here, and is known by its name, and so has its table;
 * what was going on is over.
 */
static HeapTuple
forget_process(HeapTuple row, TupleDesc desc)
{
	int			columns[] = {Anum_state_index_oid, Anum_state_state,
		Anum_state_attempts, Anum_state_next_attempt_at, Anum_state_table_oid,
	Anum_state_began_without};
	Datum		values[] = {ObjectIdGetDatum(InvalidOid),
		CStringGetTextDatum(dbopt_index_progress_name(DBOPT_INDEX_IDLE)),
		Int32GetDatum(0), (Datum) 0, ObjectIdGetDatum(InvalidOid),
	BoolGetDatum(false)};
	bool		nulls[] = {false, false, false, true, false, false};
	int			count = lengthof(columns);

	if (desc->natts <= Natts_state_old)
		count -= 2;				/* without the last two */
	return heap_modify_tuple_by_cols(row, desc, count, columns, values, nulls);
}

Datum
dbopt_index_state_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	char	   *name;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		RelationGetRelid(data->tg_relation) !=
		dbopt_table_oid(DBOPT_INDEX_STATE))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called as a row trigger of table \"dbopt_index_state\"")));
	desc = RelationGetDescr(data->tg_relation);
	name = dbopt_column_text(data->tg_trigtuple, desc, Anum_state_name);
	if (name != NULL && dbopt_index_state_find(dbopt_index_states(), name))
		return PointerGetDatum(NULL);
	return PointerGetDatum(forget_process(data->tg_trigtuple, desc));
}
