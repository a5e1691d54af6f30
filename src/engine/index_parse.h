/*
 * index_parse.h
 *		From a definition in dbopt_index to a statement, and to a shape.
 */
#ifndef DBOPT_INDEX_PARSE_H
#define DBOPT_INDEX_PARSE_H

#include "nodes/parsenodes.h"

/*
 * Parses what follows the table's name in CREATE INDEX: exactly one statement,
 * or an error with the parser's message and the position in the definition.
 * The statement's relation and name are those of nobody; *source is the text
 * that its positions refer to.
 */
extern IndexStmt *dbopt_index_parse(const char *definition,
									const char **source);

/*
 * While such a statement is analyzed, errors get their position in the
 * definition.  To be ended in the same function, unless an error was raised.
 */
typedef struct DbOptIndexErrors
{
	ErrorContextCallback callback;
	const char *definition;
} DbOptIndexErrors;

extern void dbopt_index_errors_begin(DbOptIndexErrors *errors,
									 const char *definition);
extern void dbopt_index_errors_end(const DbOptIndexErrors *errors);

/*
 * Makes the statement one for this index and table.  An operator class without
 * a schema is found in whichever schema has the only one of its name.  Columns
 * that the table lacks are left out of INCLUDE if "adapt" says so.
 */
extern void dbopt_index_direct(IndexStmt *statement, const char *name,
							   bool is_unique, Oid relid, bool adapt);

#endif							/* DBOPT_INDEX_PARSE_H */
