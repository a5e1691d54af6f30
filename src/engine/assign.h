/*
 * assign.h
 *		Who does what: candidates meet sessions, and the pool gets its size.
 */
#ifndef DBOPT_ASSIGN_H
#define DBOPT_ASSIGN_H

#include "engine/schedule.h"
#include "state/guc.h"

/*
 * Gives the candidates to idle sessions, and sees to it that there will be
 * sessions for the others.  Lowers candidates->due by what was assigned, and
 * candidates->next to the time when more can be done.
 */
extern void dbopt_assign_jobs(DbOptCandidates *candidates,
							  const DbOptPoolLimits *limits, TimestampTz now);

/*
 * Ends sessions that nobody needs and starts those that are kept warm.  "next"
 * is lowered to the time when there is more of that to do.
 */
extern void dbopt_pool_adjust(const DbOptPoolLimits *limits, bool reclaim,
							  TimestampTz now, TimestampTz *next);

#endif							/* DBOPT_ASSIGN_H */
