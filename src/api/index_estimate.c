/*
 * index_estimate.c
 *		How large indexes will be, before they are built or built anew: SQL
 *		functions.
 *
 * Run by a backend.  What reads the table, and runs an index's expressions,
 * does so as the table's owner, who can do nothing then but what an index
 * build may do.  Locks on tables and indexes are not waited for.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/relation.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "engine/catalog.h"
#include "engine/exec.h"
#include "engine/extension.h"
#include "engine/index_reckon.h"
#include "engine/index_size.h"
#include "engine/index_target.h"
#include "engine/owner_spi.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_rebuilt_bytes);
PG_FUNCTION_INFO_V1(dbopt_measured_bytes);
PG_FUNCTION_INFO_V1(dbopt_estimate_indexes);

/* %s: the schema of pgstattuple. */
static const char measure_query[] =
"SELECT (i.leaf_pages * i.avg_leaf_density / $2"
" * current_setting('block_size')::float8)::bigint"
" FROM %s.pgstatindex($1::regclass) i WHERE i.leaf_pages > 0";

/* The shape of an index that is there. */
static void
read_shape(Relation index, DbOptIndexShape *shape)
{
	bool		isnull;
	Datum		opclasses = SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
											Anum_pg_index_indclass, &isnull);

	Assert(!isnull);
	memset(shape, 0, sizeof(*shape));
	shape->am = index->rd_rel->relam;
	shape->is_unique = index->rd_index->indisunique;
	shape->keys = IndexRelationGetNumberOfKeyAttributes(index);
	shape->columns = IndexRelationGetNumberOfAttributes(index);
	shape->attnums = index->rd_index->indkey.values;
	shape->opclasses = ((oidvector *) DatumGetPointer(opclasses))->values;
	shape->collations = index->rd_indcollation;
	shape->options = index->rd_indoption;
	shape->expressions = RelationGetIndexExpressions(index);
	shape->predicate = RelationGetIndexPredicate(index);
}

typedef struct Rebuild
{
	Relation	table;
	Relation	index;
	double		bytes;
} Rebuild;

/* As the owner of the table, whose expressions are run. */
static void
reckon_rebuild(void *arg)
{
	Rebuild    *rebuild = arg;
	Relation	table = rebuild->table;
	Relation	index = rebuild->index;
	int			fillfactor = index->rd_rel->relam == BTREE_AM_OID ?
	BTGetFillFactor(index) : 0;
	DbOptOwnerScope scope;
	DbOptIndexShape shape;
	DbOptIndexSize size;

	dbopt_owner_begin_as(&scope, table->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	read_shape(index, &shape);
	dbopt_index_size(table, &shape, fillfactor, &size);
	dbopt_owner_end(&scope);
	rebuild->bytes = size.bytes;
}

/* -1: an expression fails; with what, which may hold a value, is not told. */
static double
rebuilt_bytes(Relation table, Relation index)
{
	Rebuild		rebuild = {.table = table,.index = index};
	DbOptFailure failure;

	if (dbopt_exec_try(reckon_rebuild, &rebuild, 0, &failure))
		return rebuild.bytes;
	dbopt_index_pass_cancel(&failure);
	return -1;
}

/* The relation, unless it is gone or its lock is not to be had at once. */
static Relation
open_at_once(Oid relid)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

/* dbopt_rebuilt_bytes(index regclass) RETURNS bigint */
Datum
dbopt_rebuilt_bytes(PG_FUNCTION_ARGS)
{
	Oid			index_oid = PG_GETARG_OID(0);
	Oid			table_oid = IndexGetRelation(index_oid, true);
	Relation	table = OidIsValid(table_oid) ? open_at_once(table_oid) : NULL;
	Relation	index = table != NULL ? open_at_once(index_oid) : NULL;
	double		bytes = -1;

	if (index != NULL && index->rd_rel->relkind == RELKIND_INDEX)
		bytes = rebuilt_bytes(table, index);
	if (index != NULL)
		relation_close(index, AccessShareLock);
	if (table != NULL)
		relation_close(table, AccessShareLock);
	if (bytes < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) bytes);
}

/* By pgstattuple, if it is there and lets the caller read the index. */
static bool
measure(Relation index, int64 *bytes)
{
	Oid			schema = dbopt_extension_schema("pgstattuple");
	const char *name = OidIsValid(schema) ?
	quote_identifier(get_namespace_name(schema)) : NULL;
	Oid			types[] = {OIDOID, INT4OID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(index)),
	Int32GetDatum(BTGetFillFactor(index))};
	bool		isnull = true;

	if (name == NULL)
		return false;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(psprintf("SELECT WHERE has_function_privilege(%s, 'EXECUTE')",
							 quote_literal_cstr(psprintf("%s.pgstatindex(regclass)", name))), true, 0) == SPI_OK_SELECT &&
		SPI_processed == 1 &&
		SPI_execute_with_args(psprintf(measure_query, name), lengthof(types),
							  types, values, NULL, true, 0) == SPI_OK_SELECT &&
		SPI_processed == 1)
		*bytes = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
											 SPI_tuptable->tupdesc, 1,
											 &isnull));
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	return !isnull;
}

/* dbopt_measured_bytes(index regclass) RETURNS bigint */
Datum
dbopt_measured_bytes(PG_FUNCTION_ARGS)
{
	Relation	index = open_at_once(PG_GETARG_OID(0));
	int64		bytes = 0;
	bool		measured;

	if (index == NULL)
		PG_RETURN_NULL();
	measured = index->rd_rel->relkind == RELKIND_INDEX &&
		index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indisvalid && measure(index, &bytes);
	relation_close(index, AccessShareLock);
	if (!measured)
		PG_RETURN_NULL();
	PG_RETURN_INT64(bytes);
}

/* ---- declared indexes ---------------------------------------------------- */

enum
{
	ESTIMATE_NAME,
	ESTIMATE_TABLE_NAME,
	ESTIMATE_ROWS,
	ESTIMATE_BYTES,
	ESTIMATE_TIME,
	ESTIMATE_REASON,
	ESTIMATE_COLUMNS
};

static Datum
interval_of(double ms)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) (ms * 1000);
	return IntervalPGetDatum(interval);
}

typedef struct Estimate
{
	DbOptIndexTarget target;
	bool		reckoned;		/* false: the table is locked */
	DbOptIndexSize size;
} Estimate;

static void
reckon(void *arg)
{
	Estimate   *estimate = arg;

	estimate->reckoned = dbopt_index_reckon_all(&estimate->target,
												&estimate->size);
}

/*
 * Why there is no estimate; NULL: there is one.  What an expression has raised
 * may hold a value of the table, and is not told.
 */
static char *
try_reckon(Estimate *estimate)
{
	DbOptFailure failure;

	if (estimate->target.locked)
		return estimate->target.reason;
	if (!dbopt_exec_try(reckon, estimate, 0, &failure))
	{
		dbopt_index_pass_cancel(&failure);
		return psprintf("a sample of the table failed with SQLSTATE %s",
						failure.sqlstate);
	}
	return estimate->reckoned ? NULL : "the table is locked";
}

static void
put_estimate(ReturnSetInfo *result, Estimate *estimate)
{
	const DbOptIndexRow *row = estimate->target.row;
	char	   *reason = try_reckon(estimate);
	Datum		values[ESTIMATE_COLUMNS] = {0};
	bool		nulls[ESTIMATE_COLUMNS] = {false};

	values[ESTIMATE_NAME] = CStringGetTextDatum(row->name);
	values[ESTIMATE_TABLE_NAME] = CStringGetTextDatum(row->table_name);
	values[ESTIMATE_ROWS] = Int64GetDatum((int64) estimate->size.rows);
	values[ESTIMATE_BYTES] = Int64GetDatum((int64) estimate->size.bytes);
	values[ESTIMATE_TIME] = interval_of(estimate->size.ms);
	nulls[ESTIMATE_ROWS] = nulls[ESTIMATE_BYTES] = nulls[ESTIMATE_TIME] =
		reason != NULL;
	nulls[ESTIMATE_REASON] = reason == NULL;
	if (reason != NULL)
		values[ESTIMATE_REASON] = CStringGetTextDatum(reason);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * dbopt_estimate_indexes(table_name regclass) RETURNS SETOF record
 */
Datum
dbopt_estimate_indexes(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, dbopt_index_rows())
	{
		Estimate	estimate = {0};

		CHECK_FOR_INTERRUPTS();
		dbopt_index_examine(lfirst(cell), &estimate.target);
		if (estimate.target.condition == DBOPT_INDEX_INAPPLICABLE ||
			(OidIsValid(table) && estimate.target.relid != table))
			continue;
		put_estimate(result, &estimate);
	}
	return (Datum) 0;
}
