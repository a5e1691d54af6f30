/*
 * catalog.c
 *		The extension's own tables: where they are.
 *
 * Run by every process that uses dbopt.  Each backend keeps the OIDs of our
 * tables and indexes; a relcache invalidation of one of them (DROP EXTENSION
 * drops them all) forgets everything.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "engine/catalog.h"
#include "engine/extension.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static const char *const table_names[DBOPT_TABLES] = {
	[DBOPT_DATABASE] = "dbopt_database",
	[DBOPT_SOURCE] = "dbopt_source",
	[DBOPT_RETRY_POLICY] = "dbopt_retry_policy",
	[DBOPT_RETRYABLE_ERROR] = "dbopt_retryable_error",
	[DBOPT_HANDLER] = "dbopt_handler",
	[DBOPT_CURSOR] = "dbopt_cursor",
	[DBOPT_CURSOR_VERSION] = "dbopt_cursor_version",
	[DBOPT_CHUNK] = "dbopt_chunk",
	[DBOPT_RETRY_QUEUE] = "dbopt_retry_queue",
	[DBOPT_DEAD_LETTER] = "dbopt_dead_letter",
	[DBOPT_ORDERED] = "dbopt_ordered",
	[DBOPT_INDEX] = "dbopt_index",
	[DBOPT_INDEX_STATE] = "dbopt_index_state",
	[DBOPT_ATTEMPT] = "dbopt_attempt",
	[DBOPT_BUILD_RATE] = "dbopt_build_rate",
};

/*
 * The most columns that we know of; 0: those who read it take any number.  A
 * newer version of the extension may have added some, which no array of ours
 * has room for.
 */
static const int table_widths[DBOPT_TABLES] = {
	[DBOPT_CURSOR] = Natts_cursor,
	[DBOPT_CURSOR_VERSION] = Natts_version,
	[DBOPT_CHUNK] = Natts_chunk,
	[DBOPT_RETRY_QUEUE] = Natts_retry,
	[DBOPT_DEAD_LETTER] = Natts_dead,
	[DBOPT_ORDERED] = Natts_ordered,
	[DBOPT_INDEX_STATE] = Natts_state,
	[DBOPT_ATTEMPT] = Natts_attempt,
	[DBOPT_BUILD_RATE] = Natts_rate,
};

/* What this backend knows; all zero: nothing. */
static struct
{
	Oid			schema;
	Oid			tables[DBOPT_TABLES];
	Oid			indexes[DBOPT_TABLES];
	Oid			retry_due_index;
	Oid			ordered_aggregate_index;
	Oid			cursor_identity_index;
	Oid			cursor_sequence;
	Oid			stamp;
}			known;

static bool callback_registered = false;

static void
forget_on_change(Datum arg, Oid relid)
{
	bool		ours = !OidIsValid(relid);

	for (int i = 0; i < DBOPT_TABLES && !ours; i++)
		ours = known.tables[i] == relid;
	if (ours)
		memset(&known, 0, sizeof(known));
}

/* The schema is remembered with a table, whose end makes us forget both. */
Oid
dbopt_schema_oid(void)
{
	Oid			schema = known.schema;
	Oid			table;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_on_change, (Datum) 0);
		callback_registered = true;
	}
	if (OidIsValid(schema))
		return schema;
	schema = dbopt_extension_schema("dbopt");
	if (!OidIsValid(schema))
		return InvalidOid;
	table = get_relname_relid(table_names[DBOPT_DATABASE], schema);
	if (OidIsValid(table))
	{
		known.schema = schema;
		known.tables[DBOPT_DATABASE] = table;
	}
	return schema;
}

Oid
dbopt_table_oid(DbOptTable table)
{
	Oid			schema = dbopt_schema_oid();

	if (!OidIsValid(schema))
		return InvalidOid;
	if (!OidIsValid(known.tables[table]))
		known.tables[table] = get_relname_relid(table_names[table], schema);
	return known.tables[table];
}

Oid
dbopt_table_index_oid(DbOptTable table)
{
	if (!OidIsValid(known.indexes[table]))
	{
		Relation	rel = dbopt_table_open(table, AccessShareLock);
		Oid			index;

		list_free(RelationGetIndexList(rel));
		index = rel->rd_pkindex;
		table_close(rel, AccessShareLock);
		known.indexes[table] = index;
		return index;
	}
	return known.indexes[table];
}

/* A relation of ours by its name, which is looked up once. */
static Oid
named_oid(Oid *known_oid, const char *name)
{
	Oid			schema = dbopt_schema_oid();

	if (!OidIsValid(*known_oid) && OidIsValid(schema))
		*known_oid = get_relname_relid(name, schema);
	return *known_oid;
}

Oid
dbopt_retry_due_index_oid(void)
{
	return named_oid(&known.retry_due_index, "dbopt_retry_queue_due");
}

Oid
dbopt_ordered_aggregate_index_oid(void)
{
	return named_oid(&known.ordered_aggregate_index,
					 "dbopt_ordered_aggregate");
}

/* (source_id, handler_id, event_type) */
Oid
dbopt_cursor_identity_index_oid(void)
{
	return named_oid(&known.cursor_identity_index,
					 "dbopt_cursor_source_id_handler_id_event_type_key");
}

Oid
dbopt_cursor_sequence_oid(void)
{
	return named_oid(&known.cursor_sequence, "dbopt_cursor_cursor_id_seq");
}

Oid
dbopt_stamp_oid(void)
{
	Oid			schema = dbopt_schema_oid();
	oidvector  *no_arguments = buildoidvector(NULL, 0);

	if (!OidIsValid(known.stamp) && OidIsValid(schema))
		known.stamp = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
									  CStringGetDatum("dbopt_stamp"),
									  PointerGetDatum(no_arguments),
									  ObjectIdGetDatum(schema));
	pfree(no_arguments);
	return known.stamp;
}

Oid
dbopt_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

Oid
dbopt_tables_unfit_owner(void)
{
	for (int i = 0; i < DBOPT_TABLES; i++)
	{
		Oid			owner = dbopt_relation_owner(dbopt_table_oid(i));

		if (OidIsValid(owner) && !superuser_arg(owner))
			return owner;
	}
	return InvalidOid;
}

bool
dbopt_table_is(Oid relid, DbOptTable table)
{
	return !OidIsValid(relid) || known.tables[table] == relid;
}

static void
refuse_width(Relation rel)
{
	dbopt_require_known_version();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" has columns that dbopt has not made",
					RelationGetRelationName(rel))));
}

/* One that is dropped while it is waited for may have been created anew. */
Relation
dbopt_table_open(DbOptTable table, int lockmode)
{
	Relation	rel = NULL;
	Oid			relid;

	while (rel == NULL && OidIsValid(relid = dbopt_table_oid(table)))
		rel = try_table_open(relid, lockmode);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"dbopt\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION dbopt CASCADE.")));
	if (table_widths[table] > 0 &&
		RelationGetNumberOfAttributes(rel) > table_widths[table])
		refuse_width(rel);
	return rel;
}

Snapshot
dbopt_snapshot_new(void)
{
	return RegisterSnapshot(GetLatestSnapshot());
}

char *
dbopt_sql(const char *text)
{
	static const char mark[] = "@extschema@";
	char	   *schema = get_namespace_name(dbopt_schema_oid());
	StringInfoData sql;
	const char *found;

	if (schema == NULL)
		elog(ERROR, "extension \"dbopt\" is not installed in this database");
	initStringInfo(&sql);
	while ((found = strstr(text, mark)) != NULL)
	{
		appendBinaryStringInfo(&sql, text, found - text);
		appendStringInfoString(&sql, quote_identifier(schema));
		text = found + strlen(mark);
	}
	appendStringInfoString(&sql, text);
	return sql.data;
}

int
dbopt_positions_from_array(Datum array, int64 **positions)
{
	ArrayType  *value = DatumGetArrayTypeP(array);
	Datum	   *elements;
	int			count;

	deconstruct_array(value, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &count);
	*positions = palloc(sizeof(int64) * Max(count, 1));
	for (int i = 0; i < count; i++)
		(*positions)[i] = DatumGetInt64(elements[i]);
	pfree(elements);
	return count;
}

Datum
dbopt_positions_to_array(const int64 *positions, int count)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(count, 1));
	ArrayType  *array;

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(positions[i]);
	array = construct_array(elements, count, INT8OID, sizeof(int64),
							FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	pfree(elements);
	return PointerGetDatum(array);
}
