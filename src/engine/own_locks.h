/*
 * own_locks.h
 *		Locks of the lock manager on what is no table and no row.
 *
 * All are held to the end of the transaction.  Deadlocks are found, and
 * pg_locks shows them as advisory locks whose objsubid nobody else uses.
 */
#ifndef DBOPT_OWN_LOCKS_H
#define DBOPT_OWN_LOCKS_H

#include "storage/lockdefs.h"

/*
 * A handler's events are handed out and run under a ShareLock.  Who removes the
 * handler, replays it or changes whether it goes by order has it exclusive: that
 * waits for their transactions, and lets none begin.  False: it is not to be
 * waited for, and others have it.
 */
extern bool dbopt_handler_lock(int32 handler_id, LOCKMODE mode, bool wait);

/*
 * Nobody else runs an event of this aggregate for this handler.  Those of
 * several aggregates are taken in the order of their hashes.
 */
extern void dbopt_aggregate_lock(int32 handler_id, uint32 hash);

#endif							/* DBOPT_OWN_LOCKS_H */
