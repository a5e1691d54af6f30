/*
 * handed_out.h
 *		Whether an event has been handed out and its chunk is settled.
 */
#ifndef DBOPT_HANDED_OUT_H
#define DBOPT_HANDED_OUT_H

#include "engine/ordered.h"

/*
 * Is the handler through with this event of the log: delivered, given up, in
 * the retry queue, or from before the handler's start?  "progress" keeps what
 * was read for each type; NIL at first.
 */
extern bool dbopt_is_handed_out(const DbOptOrdered *ordered, List **progress,
								const char *event_type, int64 position,
								const char *key);

#endif							/* DBOPT_HANDED_OUT_H */
