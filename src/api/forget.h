/*
 * forget.h
 *		Removing what the engine keeps for a source or a handler.
 *
 * All of these run between dbopt_owner_begin() and dbopt_owner_end().
 */
#ifndef DBOPT_FORGET_H
#define DBOPT_FORGET_H

#include "nodes/pg_list.h"

/*
 * What was written while we waited for a lock must be seen, which one old
 * snapshot for the whole transaction does not do: 25001 then.
 */
extern void dbopt_require_read_committed(void);

/*
 * Waits until nobody hands out events of the handler's own cursors, and keeps
 * it that way until the transaction ends.  Returns the cursors' ids, as
 * integers.
 */
extern List *dbopt_handler_cursors_lock(int32 handler_id);

/* Chunks of the handler's own cursors, waiting retries, dead letters. */
extern int64 dbopt_handler_pending(int32 handler_id);

/* Cursors, chunks, retries and dead letters of one handler. */
extern void dbopt_handler_forget(int32 handler_id);

/* Chunks, retries and dead letters of all of a source's handlers. */
extern void dbopt_source_forget_events(int32 source_id);

/* The source itself, with its shared cursors; no handler may be left. */
extern void dbopt_source_forget(int32 source_id);

#endif							/* DBOPT_FORGET_H */
