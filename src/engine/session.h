/*
 * session.h
 *		The process that runs jobs as a handler's role.
 */
#ifndef DBOPT_SESSION_H
#define DBOPT_SESSION_H

#include "compat.h"
#include "state/shmem.h"
#include "utils/elog.h"

extern PGDLLEXPORT void dbopt_session_main(Datum main_arg);

/*
 * Takes back what a handler has set, its role as well, and the plans made under
 * it; in a transaction that has just begun.
 */
extern void dbopt_session_reset_settings(void);

/*
 * A job begins, or its next statement: plans that were made under other settings
 * than there are now are made anew.  And: the job has ended.
 */
extern void dbopt_session_plans_check(void);
extern void dbopt_session_plans_rest(void);

/*
 * Gives the session the state of a new one; outside a transaction.  Returns
 * what made that fail, in the current memory context; NULL: nothing.  Then the
 * session can have no other job, and must give up.
 */
extern ErrorData *dbopt_session_reset(void);

/*
 * Logs why the session could not be reset, and ends it.  What became of its
 * last job has been told before.
 */
pg_noreturn extern void dbopt_session_give_up(const ErrorData *error);

/*
 * The session, which has been reset, is ready for its next job; with the last
 * one's result, NULL: there was none.
 */
extern void dbopt_session_report_idle(const DbOptJobResult *result);

#endif							/* DBOPT_SESSION_H */
