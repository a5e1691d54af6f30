/*
 * retry.h
 *		Running the due retries of a handler.
 */
#ifndef DBOPT_RETRY_H
#define DBOPT_RETRY_H

#include "engine/attempt.h"
#include "engine/delivery.h"

typedef enum DbOptRetryResult
{
	DBOPT_RETRY_NONE,			/* none was due */
	DBOPT_RETRY_SOME,			/* a batch has run; there may be more */
	DBOPT_RETRY_BLOCKED			/* the breaker is open, or the handler is
								 * broken (delivery->broken) */
} DbOptRetryResult;

/*
 * Runs one batch of the retries that have become due at *since or later, in a
 * transaction of its own, and moves *since to where the next one starts.
 * Called and returns outside a transaction, with delivery->context current.
 */
extern DbOptRetryResult dbopt_retry_batch(DbOptDelivery *delivery,
										  TimestampTz *since);

/*
 * The same for suspects of a crash: the attempt's event, or a group of them.
 * With "crash", its event is not run but has failed so.
 */
extern DbOptRetryResult dbopt_retry_suspects(DbOptDelivery *delivery,
											 const DbOptAttempt *attempt,
											 const DbOptFailure *crash);

#endif							/* DBOPT_RETRY_H */
