/*
 * mark.h
 *		Keeping "processed" and its companions up to date on the events of a
 *		mark_processed source.
 */
#ifndef DBOPT_MARK_H
#define DBOPT_MARK_H

#include "engine/delivery.h"
#include "engine/log.h"
#include "engine/queue.h"

/*
 * What is to be written to events of one transaction, at its end: see
 * dbopt_marks_write().
 */
typedef struct DbOptMarks
{
	const DbOptLog *log;
	DbOptDelivery *delivery;
	List	   *groups;			/* events that succeeded, by attempts */
	List	   *failed;			/* of const DbOptFailed *, with the failure */
} DbOptMarks;

/* In the transaction's memory. */
extern void dbopt_marks_begin(DbOptMarks *marks, const DbOptLog *log,
							  DbOptDelivery *delivery);

/* An event has succeeded in the attempt of that number; its key is copied. */
extern void dbopt_marks_success(DbOptMarks *marks, const DbOptPlace *place,
								int attempts);

/* An event has failed; it stays the caller's. */
extern void dbopt_marks_failure(DbOptMarks *marks, const DbOptFailed *failed);

/*
 * Locks an event's row and brings the event's slot to its newest version.
 * False: it is gone, is processed already, or has another place in the log.
 */
extern bool dbopt_mark_lock(DbOptLog *log, Snapshot snapshot,
							DbOptLogEvent *event);

/*
 * Marks events as processed, and notes failures beside theirs.  False: the
 * former could not be, and the transaction must be rolled back; *failure, in
 * the current memory context, says why.  A failure that cannot be noted beside
 * its event is in the queue all the same; the log will tell of it.
 *
 * Triggers and constraints are immediate from here on, those that were deferred
 * fire before: none may run at the commit, when nobody is the table's owner any
 * more.  "timeout" is in microseconds, 0: none.
 */
extern bool dbopt_marks_write(DbOptMarks *marks, int64 timeout,
							  DbOptFailure *failure);

#endif							/* DBOPT_MARK_H */
