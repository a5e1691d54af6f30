/*
 * retry_events.h
 *		The events of one batch of retries.
 */
#ifndef DBOPT_RETRY_EVENTS_H
#define DBOPT_RETRY_EVENTS_H

#include "engine/attempt.h"
#include "engine/delivery.h"
#include "engine/mark.h"
#include "engine/queue.h"

typedef struct DbOptRetryBatch
{
	DbOptDelivery *delivery;
	TimestampTz since;
	TimestampTz now;
	int			limit;
	bool		blocked;
	const DbOptFailed *suspect; /* the only event of a transaction whose
								 * commit failed: to be written down; NULL */
	DbOptFailure commit_failure;
	const DbOptAttempt *attempt;	/* suspects of a crash; NULL */
	const DbOptFailure *crash;	/* of the attempt's event; NULL */

	/* Of the present transaction. */
	int			claimed;
	TimestampTz last_due;		/* of what was claimed */
	int			calls;
	DbOptFailed called;			/* the last of them, as it was claimed */
	DbOptLog   *log;
	Snapshot	snapshot;
	DbOptCall	call;
	DbOptQueue	queue;
	DbOptMarks	marks;
	bool		unsettled;		/* events could not be marked: that is
								 * commit_failure, too */
} DbOptRetryBatch;

/*
 * Runs what the batch has claimed, until its breaker opens, and writes down what
 * became of each; marks are collected and not written yet.
 */
extern void dbopt_retry_claimed(DbOptRetryBatch *batch, List *claimed);

/* May another event of the batch run, after so many?  Sets batch->blocked. */
extern bool dbopt_retry_goes_on(DbOptRetryBatch *batch, int count);

#endif							/* DBOPT_RETRY_EVENTS_H */
