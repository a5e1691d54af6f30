/*
 * fate.h
 *		What becomes of an event that has failed: another attempt, and when, or
 *		a dead letter.
 */
#ifndef DBOPT_FATE_H
#define DBOPT_FATE_H

#include "datatype/timestamp.h"
#include "engine/config.h"
#include "engine/exec.h"

typedef struct DbOptFate
{
	bool		retryable;		/* as its error is classified */
	TimestampTz retry_at;		/* 0: a dead letter */
} DbOptFate;

/*
 * "attempts" counts the attempt that failed; failure_rate is the handler's
 * recent one, for adaptive policies; u is a random number in [0, 1).
 */
extern DbOptFate dbopt_fate(const DbOptHandler *handler,
							const DbOptFailure *failure, int attempts,
							double failure_rate, double u, TimestampTz now);

#endif							/* DBOPT_FATE_H */
