/*
 * pool.h
 *		The pool's session slots, seen from the session and its scheduler.
 */
#ifndef DBOPT_POOL_H
#define DBOPT_POOL_H

#include "state/shmem.h"

/* The session's own slot; NULL in every other process. */
extern DbOptSession *dbopt_my_session;

/* Called by a running job; they do nothing outside a session. */
extern bool dbopt_session_should_yield(void);
extern void dbopt_session_more_work(void);
extern void dbopt_session_hold(int handler_slot,
							   const DbOptAdmission *admission);
extern void dbopt_session_release(void);

/*
 * A retry of the handler is due then.  Where the handler has no slot, the job's
 * result tells the scheduler, and the job ends soon.
 */
extern void dbopt_session_retry_at(int handler_slot, TimestampTz at);

/* What that was, since the last call; DT_NOEND: nothing. */
extern TimestampTz dbopt_session_take_retry(void);

/* Counts events in and out of the handler's in_flight. */
extern void dbopt_session_in_flight(int handler_slot, int delta);

/* What the session has counted in, and not out, is not in flight any more. */
extern void dbopt_session_land(void);

/*
 * The index of the declaration with this hash is being built, until the second
 * call, or the end of the job: it may be cancelled for that declaration.  What
 * has been cancelled and not noticed is forgotten with it.
 */
extern void dbopt_session_build_begin(uint64 declaration);
extern void dbopt_session_build_end(void);

/* In a signal handler: is that so? */
extern bool dbopt_session_builds(uint64 declaration);

/* DROP EXTENSION wants the job to end, and to leave dbopt's tables alone. */
extern bool dbopt_session_dismissed(void);

/*
 * That has come true: who drops the extension waits no longer.  To be called
 * outside a transaction.
 */
extern void dbopt_session_part(void);

/* Under dbopt_shared->lock: an idle session, which is to be woken, has a job. */
extern void dbopt_session_give(DbOptSession *session, const DbOptJob *job,
							   TimestampTz now);

#endif							/* DBOPT_POOL_H */
