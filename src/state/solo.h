/*
 * solo.h
 *		Whose turn it is, when events are run with nothing else beside them in
 *		the whole cluster.
 *
 * A scheduler that holds the turn is the only one that may assign jobs; the
 * others hear of it, and ask their sessions to give way.
 */
#ifndef DBOPT_SOLO_H
#define DBOPT_SOLO_H

#include "state/shmem.h"

/*
 * By the scheduler of a database, given by its slot.  True: it has the turn.
 * Else somebody else has it, and this one is woken when it is free.
 */
extern bool dbopt_solo_take(int database);

/*
 * Nothing happens if the database does not have the turn, or a session of it
 * still runs suspects.
 */
extern void dbopt_solo_give_back(int database);

/* May this database's scheduler assign jobs?  Under dbopt_shared->lock. */
extern bool dbopt_solo_permits(int database);

/* Does another database have the turn? */
extern bool dbopt_solo_is_others(int database);

/* Wakes the scheduler that has the turn: a session here may have finished. */
extern void dbopt_solo_wake_owner(void);

/* Does no session in the cluster run events? */
extern bool dbopt_solo_is_quiet(void);

/* For whoever changes what all schedulers wait for. */
extern void dbopt_schedulers_wake(void);

#endif							/* DBOPT_SOLO_H */
