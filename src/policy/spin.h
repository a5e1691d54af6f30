/*
 * spin.h
 *		Whether a short wait is to be spent awake or asleep.
 *
 * A process that sleeps has to be woken, which costs both sides system calls
 * and, where its CPU has gone idle, a wake-up of that.  Who expects to be woken
 * sooner waits awake first, for as long as a sleep costs: so no wait takes more
 * than twice what the better choice would have (Karlin, Li, Manasse and Owicki,
 * "Empirical studies of competitive spinning for a shared-memory
 * multiprocessor", SOSP 1991).
 *
 * Where it has been in vain, some waits are slept through at once: 1, 3, 7 and so
 * on up to DBOPT_SPIN_MAX_PAUSE.  A success halves their number.
 */
#ifndef DBOPT_SPIN_H
#define DBOPT_SPIN_H

#define DBOPT_SPIN_MAX_PAUSE	63

/* What one kind of wait of a process has found; zero at first. */
typedef struct DbOptSpin
{
	int			pause;			/* waits to sleep through after one in vain */
	int			left;			/* of these */
} DbOptSpin;

/* Is the next wait to begin awake? */
extern bool dbopt_spin_worthwhile(DbOptSpin *spin);

/* It has; had it an end before a sleep would have? */
extern void dbopt_spin_note(DbOptSpin *spin, bool in_time);

#endif							/* DBOPT_SPIN_H */
