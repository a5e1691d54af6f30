/*
 * statements.c
 *		The statements that pg_stat_statements knows, for advice about indexes:
 *		SQL functions.
 *
 * Run by a backend with its caller's rights, so that pg_stat_statements itself
 * decides which texts the caller sees.  Its view is read wherever the
 * extension has been installed.  No locks are held here.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/extension.h"
#include "engine/index_row.h"
#include "engine/statement_columns.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(dbopt_statements);
PG_FUNCTION_INFO_V1(dbopt_statement_columns);
PG_FUNCTION_INFO_V1(dbopt_declared_table);

#define STATEMENTS_COLUMNS	7

/* %s: the view, qualified. */
static const char statements_query[] =
"SELECT s.queryid, r.rolname, s.calls, s.total_exec_time,"
" s.mean_exec_time, s.rows, s.query"
" FROM %s s JOIN pg_database d ON d.oid = s.dbid"
" LEFT JOIN pg_roles r ON r.oid = s.userid"
" WHERE d.datname = current_database()";

/* The qualified view; NULL or an error, which tells how to get it. */
static char *
find_view(bool missing_ok)
{
	Oid			schema = dbopt_extension_schema("pg_stat_statements");

	bool		loaded = GetConfigOption("pg_stat_statements.max", true, false) != NULL;

	if (missing_ok && (!loaded || !OidIsValid(schema)))
		return NULL;
	if (!loaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_stat_statements is not loaded"),
				 errhint("Add pg_stat_statements to the setting shared_preload_libraries, restart the server%s.",
						 OidIsValid(schema) ? "" :
						 ", and run CREATE EXTENSION pg_stat_statements")));
	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_stat_statements is not installed in this database"),
				 errhint("Run CREATE EXTENSION pg_stat_statements.")));
	return quote_qualified_identifier(get_namespace_name(schema),
									  "pg_stat_statements");
}

/*
 * dbopt_statements(missing_ok boolean)
 *		-> queryid, role, calls, total_ms, mean_ms, rows, query
 */
Datum
dbopt_statements(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *view = find_view(PG_GETARG_BOOL(0));
	char	   *query;

	InitMaterializedSRF(fcinfo, 0);
	if (view == NULL)
		return (Datum) 0;
	query = psprintf(statements_query, view);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_stat_statements");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[STATEMENTS_COLUMNS];
		bool		nulls[STATEMENTS_COLUMNS];

		Assert(SPI_tuptable->tupdesc->natts == STATEMENTS_COLUMNS);
		for (int column = 0; column < STATEMENTS_COLUMNS; column++)
			values[column] = SPI_getbinval(SPI_tuptable->vals[i],
										   SPI_tuptable->tupdesc, column + 1,
										   &nulls[column]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	return (Datum) 0;
}

/* dbopt_statement_columns(text) -> schema_name, table_name, column_name, usage */
Datum
dbopt_statement_columns(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *columns;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	columns = dbopt_statement_columns_of(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	foreach(cell, columns)
	{
		const DbOptStatementColumn *column = lfirst(cell);
		const char *texts[] = {column->schema, column->table, column->column,
		dbopt_column_usage_name(column->usage)};
		Datum		values[lengthof(texts)];
		bool		nulls[lengthof(texts)];

		for (int i = 0; i < lengthof(texts); i++)
		{
			nulls[i] = texts[i] == NULL;
			values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* dbopt_declared_table(table_name text) RETURNS oid */
Datum
dbopt_declared_table(PG_FUNCTION_ARGS)
{
	Oid			table = dbopt_index_table_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	if (!OidIsValid(table))
		PG_RETURN_NULL();
	PG_RETURN_OID(table);
}
