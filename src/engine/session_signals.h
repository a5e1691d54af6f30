/*
 * session_signals.h
 *		What a pool session does when it is told to stop, or to end.
 */
#ifndef DBOPT_SESSION_SIGNALS_H
#define DBOPT_SESSION_SIGNALS_H

/* From now on cancels and ends that are for this session reach it. */
extern void dbopt_session_signals(void);

/*
 * The call of a caller that the session begins; 0: another job.  And: is that
 * the last one that it has begun?
 */
extern void dbopt_session_serves(uint64 call);
extern bool dbopt_session_has_begun(uint64 call);

/* Has somebody else told it to end? */
extern bool dbopt_session_told_to_end(void);

#endif							/* DBOPT_SESSION_SIGNALS_H */
