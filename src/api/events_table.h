/*
 * events_table.h
 *		What a table must have to be attached.
 */
#ifndef DBOPT_EVENTS_TABLE_H
#define DBOPT_EVENTS_TABLE_H

#include "utils/relcache.h"

typedef struct DbOptEventsTable
{
	Oid			relid;
	char	   *schema;
	char	   *name;
	char	   *qualified;		/* quoted, for statements */
	char	   *key_column;
	bool		composite_key;	/* the primary key has more columns */
	bool		partitioned;
	bool		mark_processed;
	bool		has_position;	/* a column log_position is there already */
} DbOptEventsTable;

/*
 * Locks a table of the caller's with its partitions, ACCESS EXCLUSIVE; raises
 * an error when it is somebody else's, or no table that could be attached.
 */
extern void dbopt_events_table_lock(Oid relid);

/*
 * Fills in what attaching needs to know, or raises an error with a hint.
 * key_column NULL: the primary key's only column.
 */
extern void dbopt_events_table_check(Relation rel, const char *key_column,
									 DbOptEventsTable *events);

#endif							/* DBOPT_EVENTS_TABLE_H */
