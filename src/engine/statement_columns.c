/*
 * statement_columns.c
 *		Which tables a statement names, and how it uses their columns.
 *
 * Works on what the grammar makes of the text, without the catalogue and
 * without locks: a text of pg_stat_statements tells neither the search path it
 * was run with nor the types of its parameters.  Names are matched over the
 * whole statement, subqueries included, which is good enough for advice.
 * A text that does not parse is tried again with strings for its parameters:
 * normalising makes "interval $1" of "interval '1 day'".
 */
#include "postgres.h"

#include <ctype.h>

#include "engine/exec.h"
#include "engine/statement_columns.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"

/* A table of the statement, and the name its columns are qualified with. */
typedef struct StatementTable
{
	char	   *schema;
	char	   *name;
	char	   *alias;			/* the name itself where it has none */
} StatementTable;

/* A use of a column, by the qualifier as written. */
typedef struct ColumnUse
{
	char	   *qualifier;		/* NULL: none */
	char	   *column;
	DbOptColumnUsage usage;
} ColumnUse;

typedef struct StatementScan
{
	const char *query;
	List	   *parsed;			/* of RawStmt */
	List	   *tables;			/* of StatementTable */
	List	   *with;			/* names of WITH queries */
	List	   *uses;			/* of ColumnUse */
} StatementScan;

const char *
dbopt_column_usage_name(DbOptColumnUsage usage)
{
	switch (usage)
	{
		case DBOPT_COLUMN_EQUAL:
			return "equal";
		case DBOPT_COLUMN_RANGE:
			return "range";
		case DBOPT_COLUMN_ORDER:
			return "order";
		case DBOPT_COLUMN_NONE:
			break;
	}
	return NULL;
}

static void
add_use(StatementScan *scan, char *qualifier, char *column,
		DbOptColumnUsage usage)
{
	ColumnUse  *use = palloc(sizeof(ColumnUse));

	use->qualifier = qualifier;
	use->column = column;
	use->usage = usage;
	scan->uses = lappend(scan->uses, use);
}

/* Notes "node" if it is a column; casts do not count. */
static void
note_column(StatementScan *scan, Node *node, DbOptColumnUsage usage)
{
	List	   *fields;
	int			length;

	while (node != NULL && IsA(node, TypeCast))
		node = ((TypeCast *) node)->arg;
	if (node == NULL || !IsA(node, ColumnRef))
		return;
	fields = ((ColumnRef *) node)->fields;
	length = list_length(fields);
	if (!IsA(llast(fields), String))
		return;					/* a star */
	add_use(scan, length == 1 ? NULL : strVal(list_nth(fields, length - 2)),
			strVal(llast(fields)), usage);
}

/* A row compared with another: each of its columns. */
static void
note_columns(StatementScan *scan, Node *node, DbOptColumnUsage usage)
{
	ListCell   *cell;

	if (node != NULL && IsA(node, RowExpr))
		foreach(cell, ((RowExpr *) node)->args)
			note_column(scan, lfirst(cell), usage);
	else
		note_column(scan, node, usage);
}

/* Only a plain "=", or one with schema, is equality. */
static DbOptColumnUsage
operator_usage(const List *name)
{
	return strcmp(strVal(llast(name)), "=") == 0 ?
		DBOPT_COLUMN_EQUAL : DBOPT_COLUMN_RANGE;
}

static void
note_expression(StatementScan *scan, const A_Expr *expr)
{
	switch (expr->kind)
	{
		case AEXPR_OP:
			if (strcmp(strVal(llast(expr->name)), "<>") == 0)
				break;
			note_columns(scan, expr->lexpr, operator_usage(expr->name));
			note_columns(scan, expr->rexpr, operator_usage(expr->name));
			break;
		case AEXPR_OP_ANY:
		case AEXPR_IN:
			note_columns(scan, expr->lexpr, operator_usage(expr->name));
			break;
		case AEXPR_NOT_DISTINCT:
			break;				/* no index serves it */
		case AEXPR_LIKE:
		case AEXPR_BETWEEN:
		case AEXPR_BETWEEN_SYM:
			note_columns(scan, expr->lexpr, DBOPT_COLUMN_RANGE);
			break;
		default:
			break;
	}
}

/* What a WHERE or ON asks for; subqueries are left to the walk around it. */
static void
note_condition(StatementScan *scan, Node *node)
{
	ListCell   *cell;

	if (node == NULL)
		return;
	switch (nodeTag(node))
	{
		case T_BoolExpr:
			foreach(cell, ((BoolExpr *) node)->args)
				note_condition(scan, lfirst(cell));
			break;
		case T_A_Expr:
			note_expression(scan, (A_Expr *) node);
			break;
		case T_NullTest:
			note_column(scan, (Node *) ((NullTest *) node)->arg,
						DBOPT_COLUMN_EQUAL);
			break;
		case T_BooleanTest:
			note_column(scan, (Node *) ((BooleanTest *) node)->arg,
						DBOPT_COLUMN_EQUAL);
			break;
		case T_SubLink:
			if (((SubLink *) node)->subLinkType == ANY_SUBLINK)
				note_columns(scan, ((SubLink *) node)->testexpr,
							 DBOPT_COLUMN_EQUAL);
			break;
		default:
			note_column(scan, node, DBOPT_COLUMN_EQUAL);	/* a boolean */
	}
}

static void
note_order(StatementScan *scan, const SelectStmt *select)
{
	ListCell   *cell;

	foreach(cell, select->sortClause)
		note_column(scan, lfirst_node(SortBy, cell)->node, DBOPT_COLUMN_ORDER);
	foreach(cell, select->groupClause)
		note_column(scan, lfirst(cell), DBOPT_COLUMN_ORDER);
	foreach(cell, select->distinctClause)
		note_column(scan, lfirst(cell), DBOPT_COLUMN_ORDER);
}

static void
note_table(StatementScan *scan, const RangeVar *relation)
{
	StatementTable *table = palloc(sizeof(StatementTable));

	table->schema = relation->schemaname;
	table->name = relation->relname;
	table->alias = relation->alias ? relation->alias->aliasname : relation->relname;
	scan->tables = lappend(scan->tables, table);
}

static bool
walk(Node *node, void *context)
{
	StatementScan *scan = context;
	ListCell   *cell;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_RangeVar:
			note_table(scan, (RangeVar *) node);
			return false;
		case T_SelectStmt:
			note_condition(scan, ((SelectStmt *) node)->whereClause);
			note_order(scan, (SelectStmt *) node);
			break;
		case T_UpdateStmt:
			note_condition(scan, ((UpdateStmt *) node)->whereClause);
			break;
		case T_DeleteStmt:
			note_condition(scan, ((DeleteStmt *) node)->whereClause);
			break;
		case T_MergeStmt:
			note_condition(scan, ((MergeStmt *) node)->joinCondition);
			break;
		case T_JoinExpr:
			note_condition(scan, ((JoinExpr *) node)->quals);
			foreach(cell, ((JoinExpr *) node)->usingClause)
				add_use(scan, NULL, strVal(lfirst(cell)), DBOPT_COLUMN_EQUAL);
			break;
		case T_CommonTableExpr:
			scan->with = lappend(scan->with,
								 makeString(((CommonTableExpr *) node)->ctename));
			break;
		default:
			break;
	}
	return raw_expression_tree_walker(node, walk, context);
}

static bool
is_supported(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return true;
		default:
			return false;
	}
}

static void
scan_statement(void *arg)
{
	StatementScan *scan = arg;
	ListCell   *cell;

	scan->parsed = raw_parser(scan->query, RAW_PARSE_DEFAULT);
	foreach(cell, scan->parsed)
	{
		Node	   *statement = lfirst_node(RawStmt, cell)->stmt;

		if (is_supported(statement))
			(void) walk(statement, scan);
	}
}

/* The text with '' for each $n; palloc'd. */
static char *
strings_for_parameters(const char *query)
{
	StringInfoData text;
	char		previous = ' ';

	initStringInfo(&text);
	for (const char *c = query; *c != '\0'; previous = *c, c++)
	{
		if (*c != '$' || !isdigit((unsigned char) c[1]) ||
			isalnum((unsigned char) previous) || previous == '_')
		{
			appendStringInfoChar(&text, *c);
			continue;
		}
		appendStringInfoString(&text, "''");
		while (isdigit((unsigned char) c[1]))
			c++;
	}
	return text.data;
}

static bool
scan_text(StatementScan *scan, const char *query)
{
	DbOptFailure failure;

	memset(scan, 0, sizeof(*scan));
	scan->query = query;
	return dbopt_exec_try(scan_statement, scan, 0, &failure);
}

static List *
add_column(List *columns, const StatementTable *table, char *name,
		   DbOptColumnUsage usage)
{
	DbOptStatementColumn *column = palloc(sizeof(DbOptStatementColumn));

	column->schema = table->schema;
	column->table = table->name;
	column->column = name;
	column->usage = usage;
	return lappend(columns, column);
}

/* The uses of columns that may be this table's, after the table itself. */
static List *
add_table(List *columns, const StatementScan *scan, const StatementTable *table)
{
	ListCell   *cell;

	columns = add_column(columns, table, NULL, DBOPT_COLUMN_NONE);
	foreach(cell, scan->uses)
	{
		const ColumnUse *use = lfirst(cell);

		if (use->qualifier == NULL || strcmp(use->qualifier, table->alias) == 0)
			columns = add_column(columns, table, use->column, use->usage);
	}
	return columns;
}

List *
dbopt_statement_columns_of(const char *query)
{
	StatementScan scan;
	List	   *columns = NIL;
	ListCell   *cell;

	if (!scan_text(&scan, query) &&
		!scan_text(&scan, strings_for_parameters(query)))
		return NIL;
	foreach(cell, scan.tables)
	{
		const StatementTable *table = lfirst(cell);

		if (table->schema != NULL ||
			!list_member(scan.with, makeString(table->name)))
			columns = add_table(columns, &scan, table);
	}
	return columns;
}
