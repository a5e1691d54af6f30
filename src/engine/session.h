/*
 * session.h
 *		The process that runs jobs as a handler's role.
 */
#ifndef DBOPT_SESSION_H
#define DBOPT_SESSION_H

#include "state/shmem.h"

extern PGDLLEXPORT void dbopt_session_main(Datum main_arg);

/*
 * Takes back what a handler has set, its role as well; in a transaction that
 * has just begun.
 */
extern void dbopt_session_reset_settings(void);

/* Gives the session the state of a new one; outside a transaction. */
extern void dbopt_session_reset(void);

/*
 * The session, which has been reset, is ready for its next job; with the last
 * one's result, NULL: there was none.
 */
extern void dbopt_session_report_idle(const DbOptJobResult *result);

#endif							/* DBOPT_SESSION_H */
