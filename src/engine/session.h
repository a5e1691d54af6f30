/*
 * session.h
 *		The process that runs jobs as a handler's role.
 */
#ifndef DBOPT_SESSION_H
#define DBOPT_SESSION_H

extern PGDLLEXPORT void dbopt_session_main(Datum main_arg);

/* Gives the session the state of a new one; outside a transaction. */
extern void dbopt_session_reset(void);

#endif							/* DBOPT_SESSION_H */
