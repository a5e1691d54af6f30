/*
 * probation.h
 *		After an unclean end: what may have caused it is run first, with
 *		nothing else beside it.
 */
#ifndef DBOPT_PROBATION_H
#define DBOPT_PROBATION_H

#include "engine/schedule.h"

/*
 * By a scheduler that starts, before it reads anything else, outside a
 * transaction: finds out what the last end was caused by, and marks what it
 * may have been.  "database" is its slot, and "sessions" the number that the
 * database may have.
 */
extern void dbopt_probation_begin(int database, int sessions);

/* What is marked may have changed. */
extern void dbopt_probation_doubt(void);

/* Reads what is marked, if there is a doubt; outside a transaction. */
extern void dbopt_probation_read(TimestampTz now);

/*
 * Takes from the candidates what must not run now, or puts in their place what
 * is to run alone.
 */
extern void dbopt_probation_choose(DbOptCandidates *candidates,
								   TimestampTz now);

/* A job of kind DBOPT_JOB_SUSPECTS is about to be assigned; it has ended. */
extern void dbopt_probation_assigned(void);
extern void dbopt_probation_finished(const DbOptJob *job,
									 const DbOptJobResult *result,
									 TimestampTz now);

/*
 * probation_mark.c: marks what may have been run when the server ended, in
 * transactions such as these.
 */
extern void dbopt_probation_mark(int sessions);
extern void dbopt_probation_transaction_begin(void);
extern void dbopt_probation_transaction_end(void);

#endif							/* DBOPT_PROBATION_H */
