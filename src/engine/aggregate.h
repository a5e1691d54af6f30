/*
 * aggregate.h
 *		The columns of an events table that say which aggregate an event
 *		belongs to, and which of its versions it is.
 */
#ifndef DBOPT_AGGREGATE_H
#define DBOPT_AGGREGATE_H

#include "access/attnum.h"
#include "utils/relcache.h"

typedef enum DbOptAggregateColumn
{
	DBOPT_AGGREGATE_TYPE,
	DBOPT_AGGREGATE_ID,
	DBOPT_AGGREGATE_VERSION,
	DBOPT_AGGREGATE_COLUMNS		/* how many */
} DbOptAggregateColumn;

typedef struct DbOptAggregateColumns
{
	AttrNumber	numbers[DBOPT_AGGREGATE_COLUMNS];
	Oid			types[DBOPT_AGGREGATE_COLUMNS]; /* below domains */
} DbOptAggregateColumns;

extern const char *dbopt_aggregate_column_name(DbOptAggregateColumn column);

/* Is the type one that versions are counted in? */
extern bool dbopt_aggregate_version_fits(Oid type);

/* Finds the columns; NULL, or why events of the table cannot be ordered. */
extern const char *dbopt_aggregate_columns_find(Relation rel,
												DbOptAggregateColumns *columns);

/*
 * The statement for the index that finds an aggregate's versions; NULL: there
 * is a fitting one.  palloc'd.
 */
extern char *dbopt_aggregate_index_missing(Relation rel);

#endif							/* DBOPT_AGGREGATE_H */
