/*
 * sql_statement.c
 *		SQL text that a caller has given: what may be in it, and how its errors
 *		are told.
 *
 * Run by whoever runs such a text, in a transaction.
 */
#include "postgres.h"

#include "engine/sql_statement.h"
#include "nodes/parsenodes.h"
#include "tcop/tcopprot.h"

/*
 * A position in the text means nothing in the caller's own query.
 */
static void
tell_text(void *arg)
{
	const char *text = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(text);
	}
	else
		errcontext("SQL statement \"%s\"", text);
}

void
dbopt_sql_context_push(ErrorContextCallback *callback, const char *text)
{
	callback->callback = tell_text;
	callback->arg = unconstify(char *, text);
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
dbopt_sql_context_pop(ErrorContextCallback *callback)
{
	Assert(error_context_stack == callback);
	error_context_stack = callback->previous;
}

static void
check_statement(const RawStmt *raw)
{
	Node	   *statement = raw->stmt;

	if (IsA(statement, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("transaction control is not allowed here"),
				 errhint("The statements are run in a transaction of their own, which ends with them.")));
	if (IsA(statement, CopyStmt) &&
		((CopyStmt *) statement)->filename == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot COPY to or from the client here"),
				 errhint("Use a query instead, or COPY with a file.")));
}

List *
dbopt_sql_parse(const char *text)
{
	ErrorContextCallback callback;
	List	   *statements;
	ListCell   *cell;

	dbopt_sql_context_push(&callback, text);
	statements = pg_parse_query(text);
	foreach(cell, statements)
		check_statement(lfirst_node(RawStmt, cell));
	dbopt_sql_context_pop(&callback);
	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement is empty")));
	return statements;
}
