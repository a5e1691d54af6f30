/*
 * probation_list.h
 *		The suspects of a crash, and when each of them may be run.
 */
#ifndef DBOPT_PROBATION_LIST_H
#define DBOPT_PROBATION_LIST_H

#include "engine/suspect.h"

/* Of DbOptSuspects *, as they were read last. */
extern List *dbopt_probation_suspects(void);

/* The handler that they are run by; 0: none. */
extern int32 dbopt_probation_handler(const DbOptSuspects *suspects);

/* Policies' delays count from here, when the server came up; 0: there are none. */
extern void dbopt_probation_delay_from(TimestampTz at);

/*
 * A session is sent for these; it has ended, with a failure that lasts until
 * then, or 0.
 */
extern void dbopt_probation_sent(const DbOptSuspects *suspects);
extern void dbopt_probation_ended(TimestampTz failed_until);

#endif							/* DBOPT_PROBATION_LIST_H */
