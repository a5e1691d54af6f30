/*
 * index_timed.h
 *		Concurrent builds whose time is learned from.
 */
#ifndef DBOPT_INDEX_TIMED_H
#define DBOPT_INDEX_TIMED_H

#include "engine/index_target.h"

/*
 * dbopt_index_create_concurrently(), which see, with what it took written down
 * for later estimates.  *built says that the index is there, also when a cancel
 * comes while that is written; false without an error: the partition has gone.
 * After an error the watch is to be ended.
 */
extern void dbopt_index_create_timed(const DbOptIndexTarget *target,
									 Oid relid, const char *name,
									 bool *built);

/* Milliseconds that were spent waiting for locks; 0: nobody was watching. */
extern double dbopt_index_watch_end(void);

#endif							/* DBOPT_INDEX_TIMED_H */
