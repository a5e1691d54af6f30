/*
 * index_inline.h
 *		Indexes of small tables, built at once.
 */
#ifndef DBOPT_INDEX_INLINE_H
#define DBOPT_INDEX_INLINE_H

#include "engine/index_target.h"

/*
 * Sees to one index that is missing, invalid or different: builds it at once
 * where it is missing and its table is small and not in use, and queues it
 * else.  In a transaction.  Writes dbopt_index_state.  What fails here is left
 * to the pool, or where there is none, is noted as failed.  False: there is no
 * pool, and nothing has been done.
 */
extern bool dbopt_index_provide(const DbOptIndexTarget *target);

#endif							/* DBOPT_INDEX_INLINE_H */
