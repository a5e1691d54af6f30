/*
 * index_replace.h
 *		Building an index in another one's place.
 */
#ifndef DBOPT_INDEX_REPLACE_H
#define DBOPT_INDEX_REPLACE_H

#include "engine/index_target.h"

/*
 * Builds beside the different index of the declared name; then swaps them, and
 * sets *built.  Called outside a transaction, and runs several; the context
 * outlives them.
 */
extern void dbopt_index_replace(const DbOptIndexTarget *target,
								MemoryContext context, bool *built);

/* The others are called in a transaction. */

/*
 * What an index is beside an index, which forbids to drop it, in words; NULL:
 * nothing.
 */
extern const char *dbopt_index_needed(Relation index);

/* 55000: what is not an index alone is not ours to replace. */
extern void dbopt_index_check_replaceable(Oid index);

/*
 * The new index takes the declared name, and the old one's place if that still
 * has the name: whoever has renamed it keeps it.  Returns the old one, to be
 * dropped; InvalidOid: it was not replaced.  The table is locked against other
 * DDL.
 */
extern Oid	dbopt_index_take_place(const DbOptIndexTarget *target, Oid new);

#endif							/* DBOPT_INDEX_REPLACE_H */
