/*
 * index_partitioned.h
 *		Building the index of a partitioned table.
 */
#ifndef DBOPT_INDEX_PARTITIONED_H
#define DBOPT_INDEX_PARTITIONED_H

#include "engine/index_target.h"

/* An index on a partition that is built for the whole. */
typedef struct DbOptIndexPart
{
	Oid			relid;			/* the partition */
	char	   *index_name;
	bool		built;			/* else somebody else's may have the name */
} DbOptIndexPart;

/*
 * All of these are called outside a transaction and run several; "context"
 * outlives them.
 */

extern bool dbopt_index_is_partitioned(const DbOptIndexTarget *target,
									   MemoryContext context);

/*
 * Builds on the partitions one by one, then on the whole, and sets *built.
 * Appends each of the former to *parts before it is built.
 */
extern void dbopt_index_build_partitioned(const DbOptIndexTarget *target,
										  MemoryContext context,
										  List **parts, bool *built);

extern void dbopt_index_drop_partitioned(Oid index, MemoryContext context);

#endif							/* DBOPT_INDEX_PARTITIONED_H */
