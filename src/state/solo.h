/*
 * solo.h
 *		Whose turn it is, when events are run with nothing else beside them in
 *		the whole cluster.
 *
 * A scheduler that holds the turn is the only one that may assign jobs; the
 * others hear of it, and ask their sessions to give way.  Handlers that take
 * too long for that are stalled: they end what they are at, and get no more
 * until those who wait for the turn have had it.  One that has ended it long
 * before another does gets more meanwhile, once, for it need not be one that
 * takes long.
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

/* The same while a session runs suspects: others may run beside them. */
extern void dbopt_solo_share(int database);

/* May this database's scheduler assign jobs?  Under dbopt_shared->lock. */
extern bool dbopt_solo_permits(int database);

/* Does another database have the turn? */
extern bool dbopt_solo_is_others(int database);

/* Wakes the scheduler that has the turn: a session here may have finished. */
extern void dbopt_solo_wake_owner(void);

/* Does no session in the cluster run events? */
extern bool dbopt_solo_is_quiet(void);

/*
 * The turn was waited for too long: the handlers that are at work get no more
 * jobs until dbopt_solo_unstall().  False: not all that is at work is a
 * handler's with a slot.
 */
extern bool dbopt_solo_stall(int database);
extern void dbopt_solo_unstall(int database);

/* Is one of them still at work? */
extern bool dbopt_solo_stalled_at_work(int database);

/* Those that are not get jobs again, but for the ones that did so before. */
extern void dbopt_solo_excuse(int database);

/* Is this handler, by its slot or -1, one of them? */
extern bool dbopt_solo_is_stalled(int handler_slot);

/* For whoever changes what all schedulers wait for. */
extern void dbopt_schedulers_wake(void);

#endif							/* DBOPT_SOLO_H */
