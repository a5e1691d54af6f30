/*
 * sql_statement.h
 *		SQL text that a caller has given: what may be in it, and how its errors
 *		are told.
 */
#ifndef DBOPT_SQL_STATEMENT_H
#define DBOPT_SQL_STATEMENT_H

#include "nodes/pg_list.h"
#include "utils/elog.h"

/*
 * Parses the text: a list of RawStmt, at least one.  Errors point into the
 * text.  Refused are transaction control (2D000), and COPY from and to the
 * client (0A000), of whom there is none here.
 */
extern List *dbopt_sql_parse(const char *text);

/*
 * From here on to the pop, errors and notices tell that they come from this
 * text, and where in it: their position becomes an internal one.
 */
extern void dbopt_sql_context_push(ErrorContextCallback *callback,
								   const char *text);
extern void dbopt_sql_context_pop(ErrorContextCallback *callback);

#endif							/* DBOPT_SQL_STATEMENT_H */
