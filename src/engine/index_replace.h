/*
 * index_replace.h
 *		Builds that need more than one statement: in another index's place, and
 *		on partitions.
 */
#ifndef DBOPT_INDEX_REPLACE_H
#define DBOPT_INDEX_REPLACE_H

#include "engine/index_target.h"

/*
 * All of these are called outside a transaction and run several; "context"
 * outlives them.
 */

/*
 * Builds beside the different index of the declared name; then swaps them, and
 * sets *built.
 */
extern void dbopt_index_replace(const DbOptIndexTarget *target,
								MemoryContext context, bool *built);

extern bool dbopt_index_is_partitioned(const DbOptIndexTarget *target,
									   MemoryContext context);

/* An index on a partition that is built for the whole. */
typedef struct DbOptIndexPart
{
	Oid			relid;			/* the partition */
	char	   *index_name;
	bool		built;			/* else somebody else's may have the name */
} DbOptIndexPart;

/*
 * Builds on the partitions one by one, then on the whole, and sets *built.
 * Appends each of the former to *parts before it is built.
 */
extern void dbopt_index_build_partitioned(const DbOptIndexTarget *target,
										  MemoryContext context,
										  List **parts, bool *built);

/*
 * What an index is beside an index, which forbids to drop it, in words; NULL:
 * nothing.  In a transaction.
 */
extern const char *dbopt_index_needed(Relation index);

extern void dbopt_index_drop_partitioned(Oid index, MemoryContext context);

/* Before lock_timeout is switched off: what it was limits the locks here. */
extern void dbopt_index_note_lock_timeout(void);

#endif							/* DBOPT_INDEX_REPLACE_H */
