/*
 * index_state.c
 *		What dbopt has done about each declared index, and is to do.
 *
 * Run by backends, the scheduler and pool sessions, by heap access, whatever
 * role they have.  Writers take SHARE ROW EXCLUSIVE on dbopt_index_state, which
 * makes them take turns; their transactions are short.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "engine/catalog.h"
#include "engine/index_own.h"
#include "engine/index_state.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static const char *const progress_names[] = {
	[DBOPT_INDEX_IDLE] = "idle",
	[DBOPT_INDEX_QUEUED] = "queued",
	[DBOPT_INDEX_BUILDING] = "building",
	[DBOPT_INDEX_FAILED] = "failed"
};

const char *
dbopt_index_progress_name(DbOptIndexProgress progress)
{
	return progress_names[progress];
}

static DbOptIndexProgress
parse_progress(const char *name)
{
	for (int i = 0; i < lengthof(progress_names); i++)
		if (strcmp(progress_names[i], name) == 0)
			return i;
	return DBOPT_INDEX_IDLE;
}

/* ---- rows ---------------------------------------------------------------- */

static char *
text_or_null(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

/* A table of version 1.0 lacks the last columns. */
static void
read_new_columns(DbOptIndexState *state, HeapTuple tuple, TupleDesc desc)
{
	Datum		value;
	bool		isnull;

	if (desc->natts <= Natts_state_old)
		return;
	state->declaration =
		DatumGetInt64(heap_getattr(tuple, Anum_state_declaration, desc,
								   &isnull));
	state->table =
		DatumGetObjectId(heap_getattr(tuple, Anum_state_table_oid, desc,
									  &isnull));
	value = heap_getattr(tuple, Anum_state_definition, desc, &isnull);
	state->definition = text_or_null(value, isnull);
	state->began_without =
		DatumGetBool(heap_getattr(tuple, Anum_state_began_without, desc,
								  &isnull));
}

static DbOptIndexState *
read_state(HeapTuple tuple, TupleDesc desc)
{
	DbOptIndexState *state = palloc0(sizeof(DbOptIndexState));
	Datum		values[Natts_state];
	bool		nulls[Natts_state];

#define VALUE(column) values[(column) - 1], nulls[(column) - 1]
	heap_deform_tuple(tuple, desc, values, nulls);
	state->name = text_or_null(VALUE(Anum_state_name));
	state->schema = text_or_null(VALUE(Anum_state_index_schema));
	state->index = DatumGetObjectId(values[Anum_state_index_oid - 1]);
	state->built = DatumGetBool(values[Anum_state_built - 1]);
	state->progress =
		parse_progress(text_or_null(VALUE(Anum_state_state)));
	state->attempts = DatumGetInt32(values[Anum_state_attempts - 1]);
	if (!nulls[Anum_state_next_attempt_at - 1])
		state->next_attempt_at =
			DatumGetTimestampTz(values[Anum_state_next_attempt_at - 1]);
	state->error_code = text_or_null(VALUE(Anum_state_error_code));
	state->error_message = text_or_null(VALUE(Anum_state_error_message));
	if (!nulls[Anum_state_failed_at - 1])
		state->failed_at = DatumGetTimestampTz(values[Anum_state_failed_at - 1]);
#undef VALUE
	read_new_columns(state, tuple, desc);
	return state;
}

static void
put_text(Datum *values, bool *nulls, int column, const char *string)
{
	nulls[column - 1] = string == NULL;
	if (string != NULL)
		values[column - 1] = CStringGetTextDatum(string);
}

static void
put_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	nulls[column - 1] = time == 0;
	values[column - 1] = TimestampTzGetDatum(time);
}

static HeapTuple
form_state(const DbOptIndexState *state, TupleDesc desc)
{
	Datum		values[Natts_state] = {0};
	bool		nulls[Natts_state] = {false};

	put_text(values, nulls, Anum_state_name, state->name);
	put_text(values, nulls, Anum_state_index_schema, state->schema);
	values[Anum_state_index_oid - 1] = ObjectIdGetDatum(state->index);
	values[Anum_state_built - 1] = BoolGetDatum(state->built);
	put_text(values, nulls, Anum_state_state,
			 progress_names[state->progress]);
	values[Anum_state_attempts - 1] = Int32GetDatum(state->attempts);
	put_time(values, nulls, Anum_state_next_attempt_at,
			 state->next_attempt_at);
	put_text(values, nulls, Anum_state_error_code, state->error_code);
	put_text(values, nulls, Anum_state_error_message, state->error_message);
	put_time(values, nulls, Anum_state_failed_at, state->failed_at);
	values[Anum_state_declaration - 1] = Int64GetDatum(state->declaration);
	values[Anum_state_table_oid - 1] = ObjectIdGetDatum(state->table);
	put_text(values, nulls, Anum_state_definition, state->definition);
	values[Anum_state_began_without - 1] = BoolGetDatum(state->began_without);
	return heap_form_tuple(desc, values, nulls);
}

/* ---- the table ----------------------------------------------------------- */

List *
dbopt_index_states(void)
{
	Relation	rel = dbopt_table_open(DBOPT_INDEX_STATE, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	List	   *states = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		states = lappend(states, read_state(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return states;
}

/* NULL: there is none. */
DbOptIndexState *
dbopt_index_state_find(List *states, const char *name)
{
	ListCell   *cell;

	foreach(cell, states)
	{
		DbOptIndexState *state = lfirst(cell);

		if (strcmp(state->name, name) == 0)
			return state;
	}
	return NULL;
}

DbOptIndexState *
dbopt_index_state_lock(const char *name)
{
	Relation	rel = dbopt_table_open(DBOPT_INDEX_STATE,
									   ShareRowExclusiveLock);
	DbOptIndexState *state;

	table_close(rel, NoLock);
	state = dbopt_index_state_find(dbopt_index_states(), name);
	if (state == NULL)
	{
		state = palloc0(sizeof(DbOptIndexState));
		state->name = pstrdup(name);
	}
	return state;
}

/* The row of this name becomes the new one; NULL: it is deleted. */
static void
replace_row(const char *name, const DbOptIndexState *state)
{
	Relation	rel = dbopt_table_open(DBOPT_INDEX_STATE,
									   ShareRowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	HeapTuple	new = state != NULL ? form_state(state, desc) : NULL;
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	old;

	while (HeapTupleIsValid(old = systable_getnext(scan)))
		if (strcmp(read_state(old, desc)->name, name) == 0)
			break;
	if (HeapTupleIsValid(old) && new != NULL)
		CatalogTupleUpdate(rel, &old->t_self, new);
	else if (HeapTupleIsValid(old))
		CatalogTupleDelete(rel, &old->t_self);
	else if (new != NULL)
		CatalogTupleInsert(rel, new);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
dbopt_index_state_write(const DbOptIndexState *state)
{
	replace_row(state->name, state);
}

/* ---- changes ------------------------------------------------------------- */

static void
set_progress(DbOptIndexState *state, DbOptIndexProgress progress,
			 TimestampTz next_attempt_at)
{
	state->progress = progress;
	state->attempts = 0;
	state->next_attempt_at = next_attempt_at;
	state->began_without = false;
	state->error_code = NULL;
	state->error_message = NULL;
	state->failed_at = 0;
}

void
dbopt_index_state_settle(DbOptIndexState *state)
{
	set_progress(state, DBOPT_INDEX_IDLE, 0);
}

void
dbopt_index_state_queue(DbOptIndexState *state, TimestampTz at)
{
	set_progress(state, DBOPT_INDEX_QUEUED, at);
}

/* The key of a duplicate is in the detail. */
void
dbopt_index_state_note_error(DbOptIndexState *state,
							 const DbOptFailure *failure)
{
	state->error_code = pstrdup(failure->sqlstate);
	state->error_message = failure->detail == NULL ?
		pstrdup(failure->message) :
		psprintf("%s: %s", failure->message, failure->detail);
	state->failed_at = GetCurrentTimestamp();
}

/* ---- and the declarations ------------------------------------------------ */

bool
dbopt_index_state_outdated(const DbOptIndexState *state,
						   const DbOptIndexRow *row)
{
	return row == NULL || (state->declaration != 0 &&
						   state->declaration != dbopt_index_row_hash(row));
}

bool
dbopt_index_state_failed(const DbOptIndexState *state,
						 const DbOptIndexRow *row)
{
	return state->progress == DBOPT_INDEX_FAILED &&
		!dbopt_index_state_outdated(state, row) &&
		(!OidIsValid(state->table) ||
		 state->table == dbopt_index_table_find(row->table_name));
}

/* Is there, perhaps, an index that dbopt has built? */
static bool
has_built(const DbOptIndexState *state)
{
	return state->built && (!OidIsValid(state->index) ||
							OidIsValid(dbopt_index_own(state)));
}

void
dbopt_index_state_forget(DbOptIndexState *state)
{
	if (!has_built(state))
	{
		replace_row(state->name, NULL);
		return;
	}
	dbopt_index_state_settle(state);
	dbopt_index_state_write(state);
}

static bool
is_untidy(const DbOptIndexState *state, const DbOptIndexRow *row)
{
	switch (state->progress)
	{
		case DBOPT_INDEX_IDLE:
			return row == NULL && !has_built(state);
		case DBOPT_INDEX_QUEUED:
			return state->attempts > 0 &&
				dbopt_index_state_outdated(state, row);
		case DBOPT_INDEX_BUILDING:
			return false;
		case DBOPT_INDEX_FAILED:
			return dbopt_index_state_outdated(state, row);
	}
	return false;
}

void
dbopt_index_state_renew(DbOptIndexState *state, const DbOptIndexRow *row,
						TimestampTz now)
{
	if (row == NULL)
	{
		dbopt_index_state_forget(state);
		return;
	}
	if (row->enabled)
		dbopt_index_state_queue(state, now);
	else
		dbopt_index_state_settle(state);
	dbopt_index_state_write(state);
}

void
dbopt_index_states_tidy(TimestampTz now)
{
	List	   *rows = dbopt_index_rows();
	ListCell   *cell;

	foreach(cell, dbopt_index_states())
	{
		DbOptIndexState *state = lfirst(cell);
		DbOptIndexRow *row = dbopt_index_row_find(rows, state->name);

		if (!is_untidy(state, row))
			continue;
		if (!ConditionalLockRelationOid(dbopt_table_oid(DBOPT_INDEX_STATE),
										ShareRowExclusiveLock))
			return;
		state = dbopt_index_state_lock(state->name);
		if (is_untidy(state, row))
			dbopt_index_state_renew(state, row, now);
	}
}
