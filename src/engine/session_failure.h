/*
 * session_failure.h
 *		Why a session could not be created, for who waits for it, and for the
 *		log, once.
 */
#ifndef DBOPT_SESSION_FAILURE_H
#define DBOPT_SESSION_FAILURE_H

#include "state/shmem.h"

/*
 * From the first of these calls to the second, an error is kept.  A quiet
 * session leaves it to its scheduler to say that there was one: neither it nor
 * the postmaster writes a line.
 */
extern void dbopt_session_failure_watch(bool quiet);
extern void dbopt_session_failure_unwatch(void);

/* As the process ends, under dbopt_shared->lock: what was kept, if anything. */
extern void dbopt_session_failure_tell(DbOptSession *session);

#endif							/* DBOPT_SESSION_FAILURE_H */
