/*
 * exec_timer.h
 *		The handler's timer.
 */
#ifndef DBOPT_EXEC_TIMER_H
#define DBOPT_EXEC_TIMER_H

/*
 * What runs is cancelled after "timeout" microseconds (0: never), and again when
 * it goes on, until the timer is stopped or the transaction's deferred triggers
 * have fired.
 */
extern void dbopt_exec_timer_start(int64 timeout);

/* What runs has that time again, from now on. */
extern void dbopt_exec_timer_restart(void);

/*
 * Returns whether it has cancelled.  A cancel of its own that nobody has seen is
 * taken back.
 */
extern bool dbopt_exec_timer_stop(void);

#endif							/* DBOPT_EXEC_TIMER_H */
