/*
 * dissolve.h
 *		Making single events of a chunk that has crashed the server.
 */
#ifndef DBOPT_DISSOLVE_H
#define DBOPT_DISSOLVE_H

#include "engine/cursor.h"
#include "engine/delivery.h"

/*
 * Moves the events of a chunk to the retry queue, untried and under the
 * chunk's suspicion, and deletes the chunk; in a transaction of its own.
 * Nothing happens when somebody else has settled it.
 */
extern void dbopt_chunk_dissolve(DbOptDelivery *delivery,
								 const DbOptCursor *cursor, int64 seq);

#endif							/* DBOPT_DISSOLVE_H */
