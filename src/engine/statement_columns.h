/*
 * statement_columns.h
 *		Which tables a statement names, and how it uses their columns.
 */
#ifndef DBOPT_STATEMENT_COLUMNS_H
#define DBOPT_STATEMENT_COLUMNS_H

#include "nodes/pg_list.h"

typedef enum DbOptColumnUsage
{
	DBOPT_COLUMN_NONE,			/* the table as such */
	DBOPT_COLUMN_EQUAL,			/* compared for equality, or with NULL */
	DBOPT_COLUMN_RANGE,			/* compared in another way */
	DBOPT_COLUMN_ORDER			/* sorted or grouped by */
} DbOptColumnUsage;

/* Names are as written, in lower case where they are not quoted. */
typedef struct DbOptStatementColumn
{
	char	   *schema;			/* NULL: not given */
	char	   *table;
	char	   *column;			/* NULL: the table as such */
	DbOptColumnUsage usage;
} DbOptStatementColumn;

/*
 * A list of DbOptStatementColumn: each table with the column NULL, then uses of
 * columns.  A column without a qualifier is there for each table of the
 * statement.  Empty for what does not parse, and for statements other than
 * SELECT, INSERT, UPDATE, DELETE and MERGE.
 */
extern List *dbopt_statement_columns_of(const char *query);

/* "equal", "range", "order"; NULL for none. */
extern const char *dbopt_column_usage_name(DbOptColumnUsage usage);

#endif							/* DBOPT_STATEMENT_COLUMNS_H */
