/*
 * index_reckon.h
 *		Size and build time of declared indexes, before they are built.
 */
#ifndef DBOPT_INDEX_RECKON_H
#define DBOPT_INDEX_RECKON_H

#include "engine/index_size.h"
#include "engine/index_target.h"

/*
 * The part of a target's index that one table holds: its own, or a
 * partition's.  As the table's owner, in a transaction with a snapshot; the
 * lock on the table is not waited for.  False: it is not to be had, or the
 * table has no storage.
 */
extern bool dbopt_index_reckon(const DbOptIndexTarget *target, Oid relid,
							   DbOptIndexSize *size);

/* The same of a table with its partitions, added up. */
extern bool dbopt_index_reckon_all(const DbOptIndexTarget *target,
								   DbOptIndexSize *sum);

#endif							/* DBOPT_INDEX_RECKON_H */
