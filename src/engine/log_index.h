/*
 * log_index.h
 *		The index that puts the events of an attached table in log order.
 */
#ifndef DBOPT_LOG_INDEX_H
#define DBOPT_LOG_INDEX_H

#include "access/attnum.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/* The columns of a log index, in its order, as they stand in one table. */
typedef struct DbOptLogColumns
{
	AttrNumber	event_type;
	AttrNumber	log_position;
	AttrNumber	key;
} DbOptLogColumns;

/* A key that a log can be in the order of. */
extern bool dbopt_type_is_key(Oid type);

/*
 * What keeps columns from being those of a log, since the owner may change
 * them after the table was attached; NULL: nothing.
 */
extern char *dbopt_log_columns_problem(Relation rel,
									   const DbOptLogColumns *columns);

/* False when one of them is missing. */
extern bool dbopt_log_columns(Relation rel, const char *key_column,
							  DbOptLogColumns *columns);

/* OIDs of the indexes of that shape that are valid, or are not. */
extern List *dbopt_log_indexes(Relation rel, const char *key_column,
							   bool valid);

/* A valid log index of this very table or partition, or InvalidOid. */
extern Oid	dbopt_log_index_find(Relation rel, const char *key_column);

/*
 * OIDs of those parts of the table that hold rows (itself, or its leaf
 * partitions) and have no valid log index.  The caller holds a lock on the
 * table.
 */
extern List *dbopt_log_index_missing(Relation rel, const char *key_column);

/* "(event_type ..., log_position, key)", for CREATE INDEX; palloc'd. */
extern char *dbopt_log_index_columns(Relation rel, const char *key_column);

/*
 * The statement that builds it, with a name, quoted where it must be, or NULL
 * for one that the server chooses; palloc'd.
 */
extern char *dbopt_log_index_statement(Oid relid, const char *key_column,
									   const char *name);

/* A name that is not in use in the schema. */
extern char *dbopt_log_index_choose_name(Oid schema);

/* An index of that shape whose build was not finished, or InvalidOid. */
extern Oid	dbopt_log_index_leftover(Relation rel, const char *key_column);

/*
 * Where all partitions have their log index: the statement that brings the
 * indexes of a partitioned table itself nearer to being complete; NULL: they
 * are, or the table is not partitioned.  The caller holds a lock on it.
 */
extern char *dbopt_log_index_completion(Relation rel, const char *key_column);

/* Is the column's type ordered by a collation? */
extern bool dbopt_type_is_text(Oid type);

#endif							/* DBOPT_LOG_INDEX_H */
