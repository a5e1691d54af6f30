/*
 * index_own.h
 *		Which indexes dbopt has built.
 */
#ifndef DBOPT_INDEX_OWN_H
#define DBOPT_INDEX_OWN_H

#include "engine/index_state.h"

/*
 * The index that dbopt has built under this name; InvalidOid: it has gone, or
 * is somebody else's, as is one that was renamed.
 */
extern Oid	dbopt_index_own(const DbOptIndexState *state);

/* Sets what is to be known of it from now on.  In a transaction. */
extern void dbopt_index_own_note(DbOptIndexState *state, Oid index);

/*
 * Writes down anew what tables, columns and schemas are called now, and which
 * index is which after a restore.  Leaves it for the next time while somebody
 * else writes states.
 */
extern void dbopt_index_own_refresh(void);

#endif							/* DBOPT_INDEX_OWN_H */
