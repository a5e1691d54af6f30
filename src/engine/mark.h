/*
 * mark.h
 *		Keeping "processed" and its companions up to date on the events of a
 *		mark_processed source.
 */
#ifndef DBOPT_MARK_H
#define DBOPT_MARK_H

#include "engine/log.h"
#include "engine/queue.h"

/* Events that are to be marked, at most as many as a chunk has. */
typedef struct DbOptMarks
{
	int			count;
	int			size;
	Datum	   *keys;
	Datum	   *positions;
} DbOptMarks;

/* The event's key is copied. */
extern void dbopt_marks_add(DbOptMarks *marks, const DbOptLog *log,
							const DbOptPlace *place);

/*
 * Locks an event's row and brings the event's slot to its newest version.
 * False: it is gone, is processed already, or has another place in the log.
 */
extern bool dbopt_mark_lock(DbOptLog *log, Snapshot snapshot,
							DbOptLogEvent *event);

/* Marks events as processed after so many attempts. */
extern void dbopt_mark_processed(const DbOptLog *log, const DbOptMarks *marks,
								 int attempts);

/* Notes an event's failure beside it. */
extern void dbopt_mark_failed(const DbOptLog *log, const DbOptFailed *failed);

#endif							/* DBOPT_MARK_H */
