/*
 * mark.c
 *		Keeping "processed" and its companions up to date on the events of a
 *		mark_processed source.
 *
 * Run by pool sessions in the transaction that runs the events.  The rows are
 * locked (FOR NO KEY UPDATE) before the handler sees them; the UPDATE runs as
 * the owner of the table, in a security-restricted operation with a pinned
 * search_path, since triggers, index expressions and predicates of the table
 * run with it.
 *
 * A deferred trigger would run at the commit, as the handler's role, and
 * PostgreSQL refuses to queue it in such an operation.  So nothing is deferred
 * any more when events are marked, which is the last thing in the transaction:
 * what the handlers have deferred fires before, as their role, and what the
 * UPDATE sets off runs with it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "engine/exec.h"
#include "engine/mark.h"
#include "engine/owner_spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Lives as long as the log does, whatever is reset meanwhile. */
static TupleTableSlot *
lock_slot_create(DbOptLog *log, const DbOptLogLeaf *leaf)
{
	MemoryContext previous = MemoryContextSwitchTo(GetMemoryChunkContext(log));
	TupleTableSlot *slot = table_slot_create(leaf->rel, NULL);

	MemoryContextSwitchTo(previous);
	return slot;
}

/*
 * An update of the row that was waited for may have changed its type or key:
 * then it stands elsewhere in the log, to be delivered there.
 */
bool
dbopt_mark_lock(DbOptLog *log, Snapshot snapshot, DbOptLogEvent *event)
{
	DbOptLogLeaf *leaf = event->leaf;
	ItemPointerData tid = event->slot->tts_tid;
	TM_FailureData failure;
	TM_Result	result;
	AttrNumber	position = leaf->index->rd_index->indkey.values[1];
	bool		isnull;
	Datum		value;

	if (leaf->lock_slot == NULL)
		leaf->lock_slot = lock_slot_create(log, leaf);
	result = table_tuple_lock(leaf->rel, &tid, snapshot, leaf->lock_slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitBlock,
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	if (result != TM_Ok)
		return false;
	event->slot = leaf->lock_slot;
	value = slot_getattr(event->slot, position, &isnull);
	if (isnull || DatumGetInt64(value) != event->position)
		return false;
	value = slot_getattr(event->slot, leaf->processed, &isnull);
	return isnull || !DatumGetBool(value);
}

/* The table's column of this name, if it can be set; NULL: none. */
static Form_pg_attribute
find_column(const DbOptLog *log, const char *name)
{
	AttrNumber	column = get_attnum(RelationGetRelid(log->root), name);
	Form_pg_attribute attribute;

	if (column <= 0)
		return NULL;
	attribute = TupleDescAttr(RelationGetDescr(log->root), column - 1);
	return attribute->attgenerated == '\0' ? attribute : NULL;
}

static bool
has_processed_at(const DbOptLog *log)
{
	Form_pg_attribute column = find_column(log, "processed_at");

	return column != NULL &&
		(column->atttypid == TIMESTAMPTZOID ||
		 column->atttypid == TIMESTAMPOID);
}

/* Sets retry_count to $2, which is bound here, as far as the column holds it. */
static bool
append_retry_count(const DbOptLog *log, StringInfo sql, DbOptOwnerArgs *args,
				   int count)
{
	Form_pg_attribute column = find_column(log, "retry_count");
	bool		small = column != NULL && column->atttypid == INT2OID;

	dbopt_owner_bind(args, INT4OID,
					 Int32GetDatum(small ? Min(count, PG_INT16_MAX) : count));
	if (column == NULL ||
		!(small || column->atttypid == INT4OID || column->atttypid == INT8OID))
		return false;
	appendStringInfoString(sql, "retry_count = $2");
	return true;
}

/* The type of error_message, to cut a text to its length; NULL: it is none. */
static const char *
error_message_type(const DbOptLog *log)
{
	Form_pg_attribute column = find_column(log, "error_message");

	if (column == NULL ||
		!(column->atttypid == TEXTOID || column->atttypid == VARCHAROID))
		return NULL;
	return format_type_with_typemod(column->atttypid, column->atttypmod);
}

/* UPDATE schema.table AS event SET ..., to be completed. */
static void
start_update(const DbOptLog *log, StringInfo sql)
{
	Relation	rel = log->root;

	initStringInfo(sql);
	appendStringInfo(sql, "UPDATE %s.%s AS event SET ",
					 quote_identifier(get_namespace_name(RelationGetNamespace(rel))),
					 quote_identifier(RelationGetRelationName(rel)));
}

static const char *
key_column(const DbOptLog *log)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(log->root),
												  log->key_column - 1)->attname));
}

/*
 * The rows are few among many, whatever the table's statistics say: a table
 * that has just been filled has none, and would be read as a whole for each
 * slice of a chunk.
 */
static void
run_update(const DbOptLog *log, const char *sql, const DbOptOwnerArgs *args)
{
	DbOptOwnerScope scope;

	dbopt_owner_begin_as(&scope, log->root->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	dbopt_owner_pin("enable_seqscan", "off");
	dbopt_owner_execute(sql, args);
	dbopt_owner_end(&scope);
}

/* Events that have succeeded after so many attempts. */
typedef struct MarkGroup
{
	int			attempts;
	int			count;
	int			size;
	Datum	   *keys;
	Datum	   *positions;
} MarkGroup;

void
dbopt_marks_begin(DbOptMarks *marks, const DbOptLog *log,
				  DbOptDelivery *delivery)
{
	memset(marks, 0, sizeof(*marks));
	marks->log = log;
	marks->delivery = delivery;
}

static MarkGroup *
group_of(DbOptMarks *marks, int attempts)
{
	MarkGroup  *group;
	ListCell   *cell;

	foreach(cell, marks->groups)
	{
		group = lfirst(cell);
		if (group->attempts == attempts)
			return group;
	}
	group = palloc0(sizeof(MarkGroup));
	group->attempts = attempts;
	group->size = 64;
	group->keys = palloc(sizeof(Datum) * group->size);
	group->positions = palloc(sizeof(Datum) * group->size);
	marks->groups = lappend(marks->groups, group);
	return group;
}

void
dbopt_marks_success(DbOptMarks *marks, const DbOptPlace *place, int attempts)
{
	MarkGroup  *group = group_of(marks, attempts);

	if (group->count == group->size)
	{
		group->size *= 2;
		group->keys = repalloc(group->keys, sizeof(Datum) * group->size);
		group->positions = repalloc(group->positions,
									sizeof(Datum) * group->size);
	}
	group->keys[group->count] = dbopt_log_key_copy(marks->log, place->key);
	group->positions[group->count++] = Int64GetDatum(place->position);
}

void
dbopt_marks_failure(DbOptMarks *marks, const DbOptFailed *failed)
{
	marks->failed = lappend(marks->failed,
							unconstify(DbOptFailed *, failed));
}

/* Does the key alone tell one row from all others? */
static bool
key_is_unique(const DbOptLog *log)
{
	Oid			oid = dbopt_primary_key_index(log->root);
	Relation	index;
	bool		unique;

	if (!OidIsValid(oid))
		return false;
	index = index_open(oid, AccessShareLock);
	unique = index->rd_index->indnkeyatts == 1 &&
		index->rd_index->indkey.values[0] == log->key_column;
	index_close(index, NoLock);
	return unique;
}

static void
bind_keys(const DbOptLog *log, DbOptOwnerArgs *args, const MarkGroup *marks)
{
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(log->key_type, &length, &by_value, &align);
	dbopt_owner_bind(args, get_array_type(log->key_type),
					 PointerGetDatum(construct_array(marks->keys, marks->count,
													 log->key_type, length,
													 by_value, align)));
}

static void
bind_positions(DbOptOwnerArgs *args, const MarkGroup *marks)
{
	dbopt_owner_bind(args, INT8ARRAYOID,
					 PointerGetDatum(construct_array(marks->positions,
													 marks->count, INT8OID,
													 sizeof(int64),
													 FLOAT8PASSBYVAL,
													 TYPALIGN_DOUBLE)));
}

/* Where the primary key has more columns, another event may have the key. */
static void
append_marked(const DbOptLog *log, StringInfo sql, DbOptOwnerArgs *args,
			  const MarkGroup *marks)
{
	const char *key = key_column(log);

	if (key_is_unique(log))
	{
		appendStringInfo(sql, " WHERE event.%s OPERATOR(pg_catalog.=) ANY ($1) AND $2 IS NOT NULL",
						 key);
		return;
	}
	bind_positions(args, marks);
	appendStringInfo(sql, " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($3)) AS done (key, place)"
					 " WHERE event.%s OPERATOR(pg_catalog.=) done.key"
					 " AND event.log_position OPERATOR(pg_catalog.=) done.place"
					 " AND $2 IS NOT NULL", key);
}

static void
mark_group(const DbOptLog *log, const MarkGroup *marks)
{
	DbOptOwnerArgs args = {0};
	StringInfoData sql;

	bind_keys(log, &args, marks);
	start_update(log, &sql);
	if (append_retry_count(log, &sql, &args, marks->attempts - 1))
		appendStringInfoString(&sql, ", ");
	if (has_processed_at(log))
		appendStringInfoString(&sql, "processed_at = pg_catalog.clock_timestamp(), ");
	if (error_message_type(log) != NULL)
		appendStringInfoString(&sql, "error_message = NULL, ");
	appendStringInfoString(&sql, "processed = true");
	append_marked(log, &sql, &args, marks);
	run_update(log, sql.data, &args);
}

static void
mark_failed(const DbOptLog *log, const DbOptFailed *failed)
{
	DbOptOwnerArgs args = {0};
	StringInfoData sql;
	const char *type = error_message_type(log);
	bool		counted;

	dbopt_owner_bind(&args, log->key_type,
					 dbopt_log_key_from_text(log, failed->key));
	start_update(log, &sql);
	counted = append_retry_count(log, &sql, &args, failed->attempts);
	dbopt_owner_bind_text(&args, failed->failure.message);
	if (type != NULL)
		appendStringInfo(&sql, "%serror_message = $3::%s", counted ? ", " : "",
						 type);
	else if (!counted)
		return;
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(failed->position));
	appendStringInfo(&sql, " WHERE event.%s OPERATOR(pg_catalog.=) $1"
					 " AND event.log_position OPERATOR(pg_catalog.=) $4"
					 " AND $2 IS NOT NULL AND $3 IS NOT NULL",
					 key_column(log));
	run_update(log, sql.data, &args);
}

static void
mark_successes(void *arg)
{
	const DbOptMarks *marks = arg;
	ListCell   *cell;

	dbopt_exec_fire_deferred();
	foreach(cell, marks->groups)
		mark_group(marks->log, lfirst(cell));
}

/* The failure that is to be noted. */
typedef struct Note
{
	const DbOptLog *log;
	const DbOptFailed *failed;
} Note;

static void
mark_note(void *arg)
{
	Note	   *note = arg;

	mark_failed(note->log, note->failed);
}

bool
dbopt_marks_write(DbOptMarks *marks, int64 timeout, DbOptFailure *failure)
{
	DbOptFailure refusal;
	ListCell   *cell;

	if (!dbopt_exec_try(mark_successes, marks,
						marks->groups == NIL ? 0 : timeout, failure))
		return false;
	foreach(cell, marks->failed)
	{
		Note		note = {marks->log, lfirst(cell)};

		if (!dbopt_exec_try(mark_note, &note, timeout, &refusal))
			dbopt_delivery_not_noted(marks->delivery, note.failed, &refusal);
	}
	return true;
}
