/*
 * locked.h
 *		Events tables and handlers that somebody else has locked.
 */
#ifndef DBOPT_LOCKED_H
#define DBOPT_LOCKED_H

#include "datatype/timestamp.h"

/* A session could not have its lock on this handler, or, 0, on the source. */
extern void dbopt_locked_note(int32 source_id, int32 handler_id,
							  TimestampTz now);

/* Nobody is to be sent to this handler's events before; 0: at any time. */
extern TimestampTz dbopt_locked_until(int32 source_id, int32 handler_id);

/*
 * Looks whether the locks have gone, outside a transaction.  Returns when to
 * look again.
 */
extern TimestampTz dbopt_locked_probe(TimestampTz now);

#endif							/* DBOPT_LOCKED_H */
