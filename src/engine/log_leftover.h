/*
 * log_leftover.h
 *		What the build of a log index has left when dbopt is dropped.
 */
#ifndef DBOPT_LOG_LEFTOVER_H
#define DBOPT_LOG_LEFTOVER_H

#include "nodes/pg_list.h"

typedef struct DbOptLogLeftovers
{
	Oid			relid;			/* table or partition; InvalidOid: none */
	char	   *key_column;
	MemoryContext context;		/* of what is here, outlives transactions */
	List	   *indexes;		/* OIDs, those found by the last attempt too */
} DbOptLogLeftovers;

/*
 * Drops them, a DbOptLogLeftovers *, CONCURRENTLY, in transactions of its own,
 * without a look at dbopt's tables.  After an error it can be called again.
 */
extern void dbopt_log_leftovers_drop(void *arg);

#endif							/* DBOPT_LOG_LEFTOVER_H */
