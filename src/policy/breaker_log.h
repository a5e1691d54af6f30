/*
 * breaker_log.h
 *		A breaker's last changes of state.
 *
 * Pure functions over a log that the caller has locked; the time is passed in.
 * All zero is an empty log.  An outage of any length takes two entries: a trial
 * that fails is counted in the opening it belongs to, instead of adding a
 * half-opening and another opening.  Of more than DBOPT_BREAKER_CHANGES the
 * oldest are forgotten.
 */
#ifndef DBOPT_BREAKER_LOG_H
#define DBOPT_BREAKER_LOG_H

#include "policy/breaker.h"

#define DBOPT_BREAKER_CHANGES	16

typedef struct DbOptBreakerChange
{
	int64		at;				/* microseconds, as passed in */
	uint32		failed_trials;	/* OPEN: since then */
	uint8		before;			/* DbOptBreakerState */
	uint8		after;
	bool		by_hand;		/* opened by hand, until it is reset */
} DbOptBreakerChange;

typedef struct DbOptBreakerLog
{
	int			count;
	DbOptBreakerChange changes[DBOPT_BREAKER_CHANGES];	/* the oldest first */
} DbOptBreakerLog;

/* Has the breaker changed in a way that is written down? */
extern bool dbopt_breaker_changed(const DbOptBreaker *before,
								  const DbOptBreaker *after);
extern void dbopt_breaker_log_add(DbOptBreakerLog *log,
								  const DbOptBreaker *before,
								  const DbOptBreaker *after, int64 now);

#endif							/* DBOPT_BREAKER_LOG_H */
