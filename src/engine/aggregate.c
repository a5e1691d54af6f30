/*
 * aggregate.c
 *		The columns of an events table that say which aggregate an event
 *		belongs to, and which of its versions it is.
 *
 * Run by pool sessions and by backends that register handlers.  The caller
 * has the table open; its indexes are locked ACCESS SHARE.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "engine/aggregate.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static const char *const names[DBOPT_AGGREGATE_COLUMNS] = {
	[DBOPT_AGGREGATE_TYPE] = "aggregate_type",
	[DBOPT_AGGREGATE_ID] = "aggregate_id",
	[DBOPT_AGGREGATE_VERSION] = "aggregate_version",
};

const char *
dbopt_aggregate_column_name(DbOptAggregateColumn column)
{
	return names[column];
}

bool
dbopt_aggregate_version_fits(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID ||
		type == NUMERICOID;
}

const char *
dbopt_aggregate_columns_find(Relation rel, DbOptAggregateColumns *columns)
{
	Oid			relid = RelationGetRelid(rel);

	for (int i = 0; i < DBOPT_AGGREGATE_COLUMNS; i++)
	{
		AttrNumber	number = get_attnum(relid, names[i]);

		if (number <= 0)
			return psprintf("the events table has no column \"%s\", which an ordered handler needs",
							names[i]);
		columns->numbers[i] = number;
		columns->types[i] = getBaseType(get_atttype(relid, number));
		if (!OidIsValid(get_array_type(columns->types[i])))
			return psprintf("the column \"%s\" of the events table is of a type without arrays, which an ordered handler needs",
							names[i]);
	}
	if (!dbopt_aggregate_version_fits(columns->types[DBOPT_AGGREGATE_VERSION]))
		return "the column \"aggregate_version\" of the events table is of a type that an ordered handler cannot go by";
	return NULL;
}

/* A btree over the whole table on aggregate_type and id, then the version? */
static bool
finds_versions(Relation index, const AttrNumber numbers[])
{
	Form_pg_index form = index->rd_index;
	bool		by_id = false;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber	number = form->indkey.values[i];

		if (number == numbers[DBOPT_AGGREGATE_ID])
			by_id = true;
		else if (number == numbers[DBOPT_AGGREGATE_VERSION])
			return by_id;
		else if (number != numbers[DBOPT_AGGREGATE_TYPE])
			return false;
	}
	return false;
}

char *
dbopt_aggregate_index_missing(Relation rel)
{
	AttrNumber	numbers[DBOPT_AGGREGATE_COLUMNS];
	bool		found = false;
	ListCell   *cell;

	for (int i = 0; i < DBOPT_AGGREGATE_COLUMNS; i++)
		numbers[i] = get_attnum(RelationGetRelid(rel), names[i]);
	foreach(cell, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found = found || finds_versions(index, numbers);
		index_close(index, AccessShareLock);
	}
	if (found)
		return NULL;
	return psprintf("CREATE INDEX%s ON %s (aggregate_type, aggregate_id, aggregate_version)",
					rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ?
					"" : " CONCURRENTLY",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel)));
}
