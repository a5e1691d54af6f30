/*
 * log.c
 *		Opening an events table as a log, and its keys and rows.
 *
 * Run by the scheduler and by pool sessions.  Takes ACCESS SHARE on the events
 * table, then on its partitions in the order of their OIDs, and keeps both to
 * the end of the transaction.  The log index is known by its shape, not by its
 * name, which anybody may change: a valid btree over (event_type COLLATE "C",
 * log_position, key) without predicate or expressions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/log.h"
#include "engine/log_index.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* event_type, log_position and key, as the log index has them */
#define LOG_COLUMNS 3

/* The three columns of the table that has the stamp trigger, by number. */
static bool
log_columns(Relation root, AttrNumber columns[LOG_COLUMNS])
{
	TriggerDesc *triggers = root->trigdesc;
	Oid			stamp = dbopt_stamp_oid();

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgfoid == stamp && trigger->tgnattr >= LOG_COLUMNS)
		{
			memcpy(columns, trigger->tgattr,
				   sizeof(AttrNumber) * LOG_COLUMNS);
			return true;
		}
	}
	return false;
}

/*
 * The trigger is the owner's to make anew, so that its columns may be any; and
 * the UPDATE that marks events goes by the names.
 */
static char *
columns_problem(Relation root, const AttrNumber columns[LOG_COLUMNS])
{
	static const char *const names[] = {"event_type", "log_position"};
	DbOptLogColumns named = {columns[0], columns[1], columns[2]};

	for (int i = 0; i < lengthof(names); i++)
	{
		Form_pg_attribute column =
		TupleDescAttr(RelationGetDescr(root), columns[i] - 1);

		if (strcmp(NameStr(column->attname), names[i]) != 0)
			return psprintf("table \"%s\" has no column \"%s\" any more",
							RelationGetRelationName(root), names[i]);
	}
	return dbopt_log_columns_problem(root, &named);
}

static bool
is_log_index(Relation index, const AttrNumber columns[LOG_COLUMNS])
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid ||
		form->indnkeyatts != LOG_COLUMNS ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < LOG_COLUMNS; i++)
	{
		Oid			collation = index->rd_indcollation[i];

		if (form->indkey.values[i] != columns[i] ||
			index->rd_indoption[i] != 0 ||
			(OidIsValid(collation) && collation != C_COLLATION_OID))
			return false;
	}
	return true;
}

/* The log index, open; NULL when there is none. */
static Relation
log_index_open(Relation rel, const AttrNumber columns[LOG_COLUMNS])
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_log_index(index, columns))
			return index;
		index_close(index, AccessShareLock);
	}
	return NULL;
}

/* Adds a leaf, whose table it takes over; false: it has no log index. */
static bool
leaf_open(DbOptLog *log, Relation rel,
		  const AttrNumber root_columns[LOG_COLUMNS], char **problem)
{
	DbOptLogLeaf *leaf = &log->leaves[log->nleaves];
	AttrNumber	columns[LOG_COLUMNS];

	for (int i = 0; i < LOG_COLUMNS; i++)
	{
		Form_pg_attribute attribute =
		TupleDescAttr(RelationGetDescr(log->root), root_columns[i] - 1);

		columns[i] = rel == log->root ? root_columns[i] :
			get_attnum(RelationGetRelid(rel), NameStr(attribute->attname));
	}
	leaf->index = log_index_open(rel, columns);
	if (leaf->index == NULL)
	{
		*problem = psprintf("table \"%s\" has no valid log index",
							RelationGetRelationName(rel));
		if (rel != log->root)
			table_close(rel, NoLock);
		return false;
	}
	leaf->rel = rel;
	leaf->processed = get_attnum(RelationGetRelid(rel), "processed");
	leaf->to_root = rel == log->root ? NULL :
		convert_tuples_by_name(RelationGetDescr(rel),
							   RelationGetDescr(log->root));
	log->nleaves++;
	return true;
}

/* Opens the table itself, or all leaves of a partitioned one. */
static bool
leaves_open(DbOptLog *log, const AttrNumber columns[LOG_COLUMNS],
			char **problem)
{
	List	   *members;
	ListCell   *cell;

	if (log->root->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
	{
		log->leaves = palloc0(sizeof(DbOptLogLeaf));
		return leaf_open(log, log->root, columns, problem);
	}
	members = find_all_inheritors(RelationGetRelid(log->root),
								  AccessShareLock, NULL);
	list_sort(members, list_oid_cmp);
	log->members = members;
	log->leaves = palloc0(sizeof(DbOptLogLeaf) * list_length(members));
	foreach(cell, members)
	{
		Relation	member = table_open(lfirst_oid(cell), NoLock);

		if (!RELKIND_HAS_STORAGE(member->rd_rel->relkind))
			table_close(member, NoLock);
		else if (!leaf_open(log, member, columns, problem))
			return false;
	}
	return true;
}

/*
 * Those indexes that are opened to find the log index: REINDEX INDEX, for one,
 * locks out the readers of an index, but not those of its table.
 */
static bool
try_lock_indexes(Oid relid)
{
	Relation	rel = try_relation_open(relid, NoLock);
	AttrNumber	columns[LOG_COLUMNS];
	bool		locked = true;
	bool		found = false;
	ListCell   *cell;

	if (rel == NULL)
		return true;
	found = !RELKIND_HAS_STORAGE(rel->rd_rel->relkind) ||
		!log_columns(rel, columns);
	foreach(cell, found ? NIL : RelationGetIndexList(rel))
	{
		Relation	index;

		locked = ConditionalLockRelationOid(lfirst_oid(cell),
											AccessShareLock);
		if (!locked)
			break;
		index = index_open(lfirst_oid(cell), NoLock);
		found = is_log_index(index, columns);
		index_close(index, NoLock);
		if (found)
			break;
	}
	relation_close(rel, NoLock);
	return locked;
}

static bool
try_lock_one(Oid relid, LOCKMODE mode)
{
	return ConditionalLockRelationOid(relid, mode) && try_lock_indexes(relid);
}

bool
dbopt_log_try_lock(Oid relid, LOCKMODE mode)
{
	ListCell   *cell;

	if (!try_lock_one(relid, mode))
		return false;
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return true;
	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		if (!try_lock_one(lfirst_oid(cell), mode))
		return false;
	return true;
}

DbOptLog *
dbopt_log_try_open(Oid relid, char **problem)
{
	DbOptLog   *log = palloc0(sizeof(DbOptLog));
	AttrNumber	columns[LOG_COLUMNS];

	log->root = try_relation_open(relid, AccessShareLock);
	if (log->root == NULL)
	{
		*problem = pstrdup("the table does not exist any more");
		return NULL;
	}
	if (!log_columns(log->root, columns))
	{
		*problem = psprintf("table \"%s\" has no trigger \"dbopt_stamp\"",
							RelationGetRelationName(log->root));
		dbopt_log_close(log);
		return NULL;
	}
	*problem = columns_problem(log->root, columns);
	if (*problem != NULL)
	{
		dbopt_log_close(log);
		return NULL;
	}
	log->key_column = columns[2];
	log->key_type = TupleDescAttr(RelationGetDescr(log->root),
								  columns[2] - 1)->atttypid;
	if (log->key_type == VARCHAROID)
		log->key_type = TEXTOID;
	get_typlenbyval(log->key_type, &log->key_length, &log->key_by_value);
	if (!leaves_open(log, columns, problem))
	{
		dbopt_log_close(log);
		return NULL;
	}
	return log;
}

static void
cannot_read(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot read events: %s", problem),
			 errhint("The view dbopt_sources says what is missing; or detach the table and attach it again.")));
}

DbOptLog *
dbopt_log_open(Oid relid)
{
	char	   *problem = NULL;
	DbOptLog   *log = dbopt_log_try_open(relid, &problem);

	if (log == NULL)
		cannot_read(problem);
	return log;
}

/* Can it be seen, and set, which events are processed? */
static bool
tells_processed(const DbOptLogLeaf *leaf)
{
	return leaf->processed > 0 &&
		TupleDescAttr(RelationGetDescr(leaf->rel),
					  leaf->processed - 1)->atttypid == BOOLOID;
}

DbOptLog *
dbopt_log_open_source(const DbOptSource *source)
{
	DbOptLog   *log = dbopt_log_open(source->relid);

	log->unprocessed_only = source->mark_processed;
	for (int i = 0; i < log->nleaves; i++)
		if (log->unprocessed_only && !tells_processed(&log->leaves[i]))
			cannot_read(psprintf("table \"%s\" has lost its column processed boolean",
								 RelationGetRelationName(log->root)));
	return log;
}

void
dbopt_log_close(DbOptLog *log)
{
	for (int i = 0; i < log->nleaves; i++)
	{
		if (log->leaves[i].lock_slot != NULL)
			ExecDropSingleTupleTableSlot(log->leaves[i].lock_slot);
		index_close(log->leaves[i].index, NoLock);
		if (log->leaves[i].rel != log->root)
			table_close(log->leaves[i].rel, NoLock);
	}
	table_close(log->root, NoLock);
	pfree(log);
}

char *
dbopt_log_key_to_text(const DbOptLog *log, Datum key)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(log->key_type, &output, &is_varlena);
	return OidOutputFunctionCall(output, key);
}

Datum
dbopt_log_key_from_text(const DbOptLog *log, const char *text)
{
	Oid			input;
	Oid			parameter;

	getTypeInputInfo(log->key_type, &input, &parameter);
	return OidInputFunctionCall(input, unconstify(char *, text), parameter,
								-1);
}

Datum
dbopt_log_key_copy(const DbOptLog *log, Datum key)
{
	return datumCopy(key, log->key_by_value, log->key_length);
}

bool
dbopt_log_same_event(const DbOptLog *log, const DbOptPlace *a,
					 const DbOptPlace *b)
{
	return a->position == b->position &&
		datum_image_eq(a->key, b->key, log->key_by_value, log->key_length);
}

Datum
dbopt_log_event_row(const DbOptLog *log, const DbOptLogEvent *event)
{
	const DbOptLogLeaf *leaf = event->leaf;
	HeapTuple	tuple;
	bool		should_free;
	Datum		row;

	if (leaf->rel == log->root)
		return ExecFetchSlotHeapTupleDatum(event->slot);
	tuple = ExecFetchSlotHeapTuple(event->slot, false, &should_free);
	if (leaf->to_root != NULL)
		tuple = execute_attr_map_tuple(tuple, leaf->to_root);
	row = heap_copy_tuple_as_datum(tuple, RelationGetDescr(log->root));
	if (leaf->to_root != NULL || should_free)
		heap_freetuple(tuple);
	return row;
}
