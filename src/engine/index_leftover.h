/*
 * index_leftover.h
 *		What builds that did not finish have left.
 */
#ifndef DBOPT_INDEX_LEFTOVER_H
#define DBOPT_INDEX_LEFTOVER_H

#include "engine/index_target.h"

/* An index to be dropped. */
typedef struct DbOptIndexLeftover
{
	Oid			index;
	char	   *schema;
	char	   *name;
	bool		partitioned;	/* cannot be dropped CONCURRENTLY */
} DbOptIndexLeftover;

/*
 * Of the target's table and its partitions: indexes that waited to take the
 * declared one's place, or to be dropped; invalid ones that REINDEX
 * CONCURRENTLY has left of it; invalid ones of the partitions that were built
 * for it.  In a transaction; the caller holds a lock on the table.
 */
extern List *dbopt_index_leftovers(const DbOptIndexTarget *target);

/*
 * The table's index of the declared name, if its build did not finish; NULL:
 * there is none, or it is partitioned and lacks parts only.  As above.
 */
extern DbOptIndexLeftover *dbopt_index_unfinished(const DbOptIndexTarget *target);

/*
 * A partition's index of this name, unless it has become part of another one;
 * NULL: there is none.  As above.
 */
extern DbOptIndexLeftover *dbopt_index_unattached(Oid relid,
												  const char *name);

#endif							/* DBOPT_INDEX_LEFTOVER_H */
