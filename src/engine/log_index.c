/*
 * log_index.c
 *		The index that puts the events of an attached table in log order.
 *
 * Run by backends that attach a table and by the scheduler.  An index is known
 * by its shape, never by its name: a btree on event_type, log_position and the
 * key, texts in the collation "C", which no library update reorders.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "engine/log_index.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define LOG_INDEX_COLUMNS	3

bool
dbopt_type_is_text(Oid type)
{
	return type == TEXTOID || type == VARCHAROID;
}

bool
dbopt_type_is_key(Oid type)
{
	return type == UUIDOID || type == INT8OID || type == INT4OID ||
		dbopt_type_is_text(type);
}

char *
dbopt_log_columns_problem(Relation rel, const DbOptLogColumns *columns)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Form_pg_attribute event_type = TupleDescAttr(desc, columns->event_type - 1);
	Form_pg_attribute position = TupleDescAttr(desc, columns->log_position - 1);
	Form_pg_attribute key = TupleDescAttr(desc, columns->key - 1);

	if (!dbopt_type_is_text(event_type->atttypid))
		return psprintf("the column %s is not of type text or varchar",
						quote_identifier(NameStr(event_type->attname)));
	if (position->atttypid != INT8OID)
		return psprintf("the column %s is not of type bigint",
						quote_identifier(NameStr(position->attname)));
	if (!dbopt_type_is_key(key->atttypid))
		return psprintf("the key column %s is not of type uuid, bigint, integer, text or varchar",
						quote_identifier(NameStr(key->attname)));
	if (!key->attnotnull)
		return psprintf("the key column %s may be null",
						quote_identifier(NameStr(key->attname)));
	return NULL;
}

bool
dbopt_log_columns(Relation rel, const char *key_column,
				  DbOptLogColumns *columns)
{
	Oid			relid = RelationGetRelid(rel);

	columns->event_type = get_attnum(relid, "event_type");
	columns->log_position = get_attnum(relid, "log_position");
	columns->key = get_attnum(relid, key_column);
	return columns->event_type > 0 && columns->log_position > 0 &&
		columns->key > 0;
}

/* Is this column of the index plain, ascending, and in the expected order? */
static bool
column_fits(Relation index, int place, AttrNumber expected, Oid type)
{
	Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);

	if (index->rd_index->indkey.values[place] != expected ||
		index->rd_indoption[place] != 0 ||
		index->rd_opfamily[place] != get_opclass_family(opclass))
		return false;
	return !dbopt_type_is_text(type) ||
		index->rd_indcollation[place] == C_COLLATION_OID;
}

static bool
has_log_shape(Relation rel, Relation index, const DbOptLogColumns *columns)
{
	const AttrNumber expected[LOG_INDEX_COLUMNS] = {
		columns->event_type, columns->log_position, columns->key
	};
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID ||
		form->indnkeyatts != LOG_INDEX_COLUMNS ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < LOG_INDEX_COLUMNS; i++)
	{
		Form_pg_attribute attribute =
		TupleDescAttr(RelationGetDescr(rel), expected[i] - 1);

		if (!column_fits(index, i, expected[i], attribute->atttypid))
			return false;
	}
	return true;
}

static bool
is_valid(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indisready && form->indislive;
}

List *
dbopt_log_indexes(Relation rel, const char *key_column, bool valid)
{
	DbOptLogColumns columns;
	List	   *found = NIL;
	List	   *indexes;
	ListCell   *cell;

	if (!dbopt_log_columns(rel, key_column, &columns))
		return NIL;
	indexes = RelationGetIndexList(rel);
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_valid(index) == valid && has_log_shape(rel, index, &columns))
			found = lappend_oid(found, lfirst_oid(cell));
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

static Oid
first_of(List *indexes)
{
	return indexes == NIL ? InvalidOid : linitial_oid(indexes);
}

Oid
dbopt_log_index_find(Relation rel, const char *key_column)
{
	return first_of(dbopt_log_indexes(rel, key_column, true));
}

Oid
dbopt_log_index_leftover(Relation rel, const char *key_column)
{
	return first_of(dbopt_log_indexes(rel, key_column, false));
}

List *
dbopt_log_index_missing(Relation rel, const char *key_column)
{
	List	   *parts = find_all_inheritors(RelationGetRelid(rel),
											AccessShareLock, NULL);
	List	   *missing = NIL;
	ListCell   *cell;

	foreach(cell, parts)
	{
		Relation	part = table_open(lfirst_oid(cell), NoLock);

		if (part->rd_rel->relkind != RELKIND_PARTITIONED_TABLE &&
			!OidIsValid(dbopt_log_index_find(part, key_column)))
			missing = lappend_oid(missing, lfirst_oid(cell));
		table_close(part, NoLock);
	}
	list_free(parts);
	return missing;
}

char *
dbopt_log_index_columns(Relation rel, const char *key_column)
{
	AttrNumber	key = get_attnum(RelationGetRelid(rel), key_column);
	Oid			type = get_atttype(RelationGetRelid(rel), key);

	return psprintf("(event_type COLLATE pg_catalog.\"C\", log_position, %s%s)",
					quote_identifier(key_column),
					dbopt_type_is_text(type) ?
					" COLLATE pg_catalog.\"C\"" : "");
}

char *
dbopt_log_index_choose_name(Oid schema)
{
	char	   *name = "idx_events_log";

	for (int i = 1; OidIsValid(get_relname_relid(name, schema)); i++)
		name = psprintf("idx_events_log%d", i);
	return name;
}

char *
dbopt_log_index_statement(Oid relid, const char *key_column, const char *name)
{
	Relation	rel = table_open(relid, AccessShareLock);
	char	   *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel));
	char	   *statement = psprintf("CREATE INDEX CONCURRENTLY %s%sON %s %s",
									 name ? name : "", name ? " " : "", table,
									 dbopt_log_index_columns(rel, key_column));

	table_close(rel, AccessShareLock);
	return statement;
}
