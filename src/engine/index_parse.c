/*
 * index_parse.c
 *		From a definition in dbopt_index to a statement.
 *
 * Run by backends that write or check a definition, and by pool sessions that
 * build one.  Names never become text of a statement: they are put into its
 * parse tree, so that nothing in them is read as SQL.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_opclass.h"
#include "commands/defrem.h"
#include "engine/index_parse.h"
#include "engine/index_settings.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* What a definition is parsed behind; the table is nobody's. */
#define PREFIX "CREATE INDEX ON dbopt "

/* ---- positions ----------------------------------------------------------- */

/* The caller sees the definition alone, with the position in it. */
static void
point_into_definition(void *arg)
{
	const DbOptIndexErrors *errors = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(Max(position - (int) strlen(PREFIX), 1));
		internalerrquery(errors->definition);
	}
}

void
dbopt_index_errors_begin(DbOptIndexErrors *errors, const char *definition)
{
	errors->definition = definition;
	errors->callback.callback = point_into_definition;
	errors->callback.arg = errors;
	errors->callback.previous = error_context_stack;
	error_context_stack = &errors->callback;
}

void
dbopt_index_errors_end(const DbOptIndexErrors *errors)
{
	Assert(error_context_stack == &errors->callback);
	error_context_stack = errors->callback.previous;
}

/* ---- parsing ------------------------------------------------------------- */

static void
refuse(const char *definition, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("the definition of an index %s", what),
			 errdetail("It is: %s", definition),
			 errhint("Write what follows the table's name in CREATE INDEX, such as (created_at DESC) WHERE status = 'active'.")));
}

static List *
parse(const char *source)
{
	int			guc_level = NewGUCNestLevel();
	List	   *statements;

	dbopt_index_settings_pin();
	statements = raw_parser(source, RAW_PARSE_DEFAULT);
	AtEOXact_GUC(false, guc_level);
	return statements;
}

IndexStmt *
dbopt_index_parse(const char *definition, const char **source)
{
	DbOptIndexErrors errors;
	List	   *statements;
	IndexStmt  *statement;

	*source = psprintf(PREFIX "%s", definition);
	dbopt_index_errors_begin(&errors, definition);
	statements = parse(*source);
	dbopt_index_errors_end(&errors);

	if (list_length(statements) != 1)
		refuse(definition, "must be one, and nothing else");
	statement = (IndexStmt *) linitial_node(RawStmt, statements)->stmt;
	if (!IsA(statement, IndexStmt))
		refuse(definition, "is something else");
	if (statement->relation->schemaname != NULL ||
		statement->relation->catalogname != NULL)
		refuse(definition, "names a table");
	return statement;
}

/* ---- for one table ------------------------------------------------------- */

/* The schema of the only operator class of this name; InvalidOid: none. */
static Oid
opclass_schema(Oid am, const char *name)
{
	Relation	catalog = table_open(OperatorClassRelationId, AccessShareLock);
	Oid			schema = InvalidOid;
	int			found = 0;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_opclass_opcmethod, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(am));
	ScanKeyInit(&keys[1], Anum_pg_opclass_opcname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(catalog, OpclassAmNameNspIndexId, true, NULL, 2,
							  keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		schema = ((Form_pg_opclass) GETSTRUCT(tuple))->opcnamespace;
		found++;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found == 1 ? schema : InvalidOid;
}

/* Only superusers make operator classes, so that any may be trusted. */
static void
qualify_opclass(IndexElem *element, Oid am)
{
	Oid			schema;

	if (list_length(element->opclass) != 1 || !OidIsValid(am))
		return;
	schema = opclass_schema(am, strVal(linitial(element->opclass)));
	if (OidIsValid(schema))
		element->opclass = lcons(makeString(get_namespace_name(schema)),
								 element->opclass);
}

static List *
keep_present_columns(List *elements, Oid relid)
{
	List	   *kept = NIL;
	ListCell   *cell;

	foreach(cell, elements)
	{
		IndexElem  *element = lfirst_node(IndexElem, cell);

		if (element->name == NULL ||
			get_attnum(relid, element->name) != InvalidAttrNumber)
			kept = lappend(kept, element);
	}
	return kept;
}

void
dbopt_index_direct(IndexStmt *statement, const char *name, bool is_unique,
				   Oid relid, bool adapt)
{
	Oid			am = get_index_am_oid(statement->accessMethod, true);
	ListCell   *cell;

	statement->idxname = pstrdup(name);
	statement->unique = is_unique;
	statement->relation =
		makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
					 get_rel_name(relid), -1);
	foreach(cell, statement->indexParams)
		qualify_opclass(lfirst_node(IndexElem, cell), am);
	if (adapt)
		statement->indexIncludingParams =
			keep_present_columns(statement->indexIncludingParams, relid);
}
