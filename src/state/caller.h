/*
 * caller.h
 *		Backends that have SQL run in pool sessions: their queue, and who
 *		serves whom.
 *
 * A backend has one slot, by its process number, since it has one call at a
 * time.  Callers are served in the order of their tickets.
 */
#ifndef DBOPT_CALLER_H
#define DBOPT_CALLER_H

#include "state/shmem.h"
#include "storage/shm_mq.h"

/* What a scheduler has to know of a caller that waits. */
typedef struct DbOptWaitingCaller
{
	int			slot;
	Oid			roleid;
	int			role_limit;
	uint64		ticket;
	TimestampTz since;
	dsm_handle	segment;
} DbOptWaitingCaller;

/*
 * By the caller: into the queue, with the segment that the session is to open
 * and the queue of messages in it, whose receiver it is by then; a copy of its
 * slot; its session has not begun, and it waits for another; the answer is here;
 * its call has ended, and a session that is still at it is cancelled.
 */
extern void dbopt_caller_enter(Oid roleid, int role_limit,
							   dsm_handle segment, shm_mq *queue);
extern void dbopt_caller_look(DbOptCaller *copy);
extern void dbopt_caller_wait_again(void);
extern void dbopt_caller_answered(void);
extern void dbopt_caller_leave(void);

/*
 * Under dbopt_shared->lock, by a caller that has just entered: takes an idle
 * session, and returns the process to wake; -1: there is none for it, or others
 * come first.
 */
extern int	dbopt_caller_take_session(DbOptCaller *caller, shm_mq *queue);

/* By a scheduler: those that wait, in the order of arrival; palloc'd. */
extern DbOptWaitingCaller *dbopt_callers_waiting(Oid dboid, int *count);

/* By a scheduler: why there is no session for these callers yet. */
extern void dbopt_callers_tell(Oid dboid, Oid roleid, const char *error_code,
							   const char *error);

/*
 * Under dbopt_shared->lock: a session, by its slot, is about to get the job;
 * false: the caller has gone.  It is woken by the session.  And: that session
 * has gone, after it had begun with the job or not.
 */
extern bool dbopt_caller_serve(const DbOptJob *job, int session,
							   TimestampTz now);
extern void dbopt_caller_lose(const DbOptJob *job, bool begun);

/*
 * Whom a process waits for, by its pid: the session that runs its SQL, 0 for
 * none.  And whether it has decided to give up.
 */
extern pid_t dbopt_caller_waits_for(pid_t pid, bool *victim);

/*
 * The caller's own call ends a deadlock, unless one of these others' has been
 * chosen for that.
 */
extern bool dbopt_caller_become_victim(const pid_t *others, int count);

#endif							/* DBOPT_CALLER_H */
