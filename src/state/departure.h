/*
 * departure.h
 *		Handlers that end their own session: by a FATAL error, by exit(), or by
 *		leaving it no memory to go on with.
 *
 * The server lives on, so that no crash tells which event did it.  What the
 * session was calling its handler for is noted in the handler's slot instead.
 * All of these accept slot -1 and do nothing.
 */
#ifndef DBOPT_DEPARTURE_H
#define DBOPT_DEPARTURE_H

#include "state/shmem.h"

/* ---- in the session --- */

/* What the handler was called for has committed, or is done with otherwise. */
extern void dbopt_departure_begin(void);

/*
 * The handler is called for one event or several.  Before the first call of a
 * transaction: for which one, if it is alone.
 */
extern void dbopt_departure_calling(int slot);
extern void dbopt_departure_calling_for(int64 position, const char *key);

/* It is going to end, since there is no memory left: noted at once. */
extern void dbopt_departure_starved(void);

/*
 * The process ends, and nobody has told it to: notes what it was at in the
 * handler's slot.  False: it was not calling a handler.
 */
extern bool dbopt_departure_note(void);

/* ---- in the sessions that come after it --- */

/* Has the handler ended a session within the last minute? */
extern bool dbopt_departure_is_recent(int slot);

/*
 * Was it called for this event alone, when it did?  True only once for each
 * time; starved: for want of memory.
 */
extern bool dbopt_departure_take(int slot, int64 position, const char *key,
								 bool *starved);

#endif							/* DBOPT_DEPARTURE_H */
