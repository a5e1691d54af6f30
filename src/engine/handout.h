/*
 * handout.h
 *		Handing out: the one short transaction that gives a session the next
 *		part of the log.
 */
#ifndef DBOPT_HANDOUT_H
#define DBOPT_HANDOUT_H

#include "engine/chunk.h"
#include "engine/cursor.h"

typedef enum DbOptHandoutResult
{
	DBOPT_HANDOUT_NONE,			/* there is nothing behind the cursor */
	DBOPT_HANDOUT_LAST,			/* a chunk, and nothing was left then */
	DBOPT_HANDOUT_FULL			/* a chunk; there may be more */
} DbOptHandoutResult;

/*
 * Hands out at most "wanted" events of the cursor.  Called in a transaction
 * that has done nothing yet; the caller commits it.  Of the chunk only its
 * id and its number of events are of use then: a session reads it again when
 * it runs it.
 */
extern DbOptHandoutResult dbopt_handout(const DbOptConfig *config,
										const DbOptSource *source,
										const DbOptCursor *cursor,
										int wanted, DbOptChunk *chunk);

#endif							/* DBOPT_HANDOUT_H */
