/*
 * key_defaults.c
 *		Defaults of columns that are dbopt_uuid_v7().
 *
 * Run by the backend of whoever drops the extension, before the command.
 * dbopt_create_events() gives its tables such a default.  With CASCADE it would
 * go with the function, and inserts would fail that have always left the key
 * out; so it is made one that stays.  A default that calls the function in any
 * other way is its author's to care for.
 */
#include "postgres.h"

#include "api/ddl.h"
#include "api/key_defaults.h"
#include "compat.h"
#include "engine/catalog.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#ifdef DBOPT_BUILTIN_UUID_V7
#define SERVERS_OWN	"uuidv7()"
#else
#define SERVERS_OWN	"gen_random_uuid()"
#endif

/* %1$s is the function's call, as SQL shows it, quoted as a literal. */
static const char find_defaults[] =
"SELECT c.oid::text, format('%%I.%%I', n.nspname, c.relname), quote_ident(a.attname), c.relname, a.attname"
" FROM pg_depend p"
" JOIN pg_attrdef d ON d.oid = p.objid"
" JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum"
" JOIN pg_class c ON c.oid = d.adrelid"
" JOIN pg_namespace n ON n.oid = c.relnamespace"
" WHERE p.refclassid = 'pg_proc'::regclass AND p.refobjid = to_regprocedure(%1$s)"
" AND p.classid = 'pg_attrdef'::regclass AND a.attgenerated = ''"
" AND pg_has_role(c.relowner, 'USAGE')"
" AND pg_get_expr(d.adbin, d.adrelid) = %1$s"
" ORDER BY c.oid, a.attnum";

enum
{
	TABLE_OID = 1,
	QUALIFIED_TABLE,
	QUOTED_COLUMN,
	TABLE_NAME,
	COLUMN_NAME
};

/* Returns how many there are; the result is SPI's. */
static uint64
find(void)
{
	const char *call = psprintf("%s()",
								quote_qualified_identifier(get_namespace_name(dbopt_schema_oid()),
														   "dbopt_uuid_v7"));

	dbopt_ddl(find_defaults, quote_literal_cstr(call));
	return SPI_processed;
}

static char *
found(const SPITupleTable *result, uint64 row, int column)
{
	return SPI_getvalue(result->vals[row], result->tupdesc, column);
}

List *
dbopt_key_default_tables(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext previous;
	DbOptDdlScope scope;
	List	   *tables = NIL;
	uint64		rows;

	dbopt_ddl_begin(&scope);
	rows = find();
	previous = MemoryContextSwitchTo(context);
	for (uint64 row = 0; row < rows; row++)
		tables = list_append_unique_oid(tables,
										atooid(found(SPI_tuptable, row, TABLE_OID)));
	MemoryContextSwitchTo(previous);
	dbopt_ddl_end(&scope);
	return tables;
}

void
dbopt_key_defaults_replace(void)
{
	DbOptDdlScope scope;
	SPITupleTable *result;
	uint64		rows;

	dbopt_ddl_begin(&scope);
	rows = find();
	result = SPI_tuptable;
	for (uint64 row = 0; row < rows; row++)
	{
		dbopt_ddl("ALTER TABLE ONLY %s ALTER COLUMN %s SET DEFAULT " SERVERS_OWN,
				  found(result, row, QUALIFIED_TABLE),
				  found(result, row, QUOTED_COLUMN));
		ereport(NOTICE,
				(errmsg("column \"%s\" of table \"%s\" has the default " SERVERS_OWN " from now on",
						found(result, row, COLUMN_NAME),
						found(result, row, TABLE_NAME)),
				 errdetail("Its default was dbopt_uuid_v7(), which goes with the extension.")));
	}
	dbopt_ddl_end(&scope);
}
