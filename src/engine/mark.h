/*
 * mark.h
 *		Keeping "processed" and its companions up to date on the events of a
 *		mark_processed source.
 */
#ifndef DBOPT_MARK_H
#define DBOPT_MARK_H

#include "engine/log.h"
#include "engine/queue.h"

/*
 * Locks an event's row and brings the event's slot to its newest version.
 * False: it is gone, or processed already.
 */
extern bool dbopt_mark_lock(DbOptLog *log, Snapshot snapshot,
							DbOptLogEvent *event);

/* Marks events, given by their keys, as processed after so many attempts. */
extern void dbopt_mark_processed(const DbOptLog *log, Datum *keys, int count,
								 int attempts);

/* Notes an event's failure beside it. */
extern void dbopt_mark_failed(const DbOptLog *log, const DbOptFailed *failed);

#endif							/* DBOPT_MARK_H */
