/*
 * latch_spin.h
 *		Waiting for one's latch awake, for a moment (policy/spin.h).
 */
#ifndef DBOPT_LATCH_SPIN_H
#define DBOPT_LATCH_SPIN_H

#include "policy/spin.h"

/* Returns when MyLatch is set, or when it is time to sleep. */
extern void dbopt_latch_spin(DbOptSpin *spin);

#endif							/* DBOPT_LATCH_SPIN_H */
