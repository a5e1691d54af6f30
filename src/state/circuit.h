/*
 * circuit.h
 *		The shared state of handlers by name: slots and circuit breakers.
 *
 * dbopt_handler_attach() gives a handler its slot in shared memory, or -1
 * when all dbopt.max_handlers are taken: the handler then runs without a
 * breaker and without statistics, which is logged once.  The other functions
 * accept -1 and do nothing (admit everything), and so they do when the
 * library is not preloaded.
 *
 * None of them may be called with dbopt_shared->lock held: they take it.
 */
#ifndef DBOPT_CIRCUIT_H
#define DBOPT_CIRCUIT_H

#include "state/shmem.h"

extern int	dbopt_handler_attach(Oid dboid, Oid extension, int32 handler_id,
								 const char *name);
extern int	dbopt_handler_find(Oid dboid, int32 handler_id);

/* The same, under dbopt_shared->lock; InvalidOid looks for a free one. */
extern int	dbopt_handler_find_locked(Oid dboid, int32 handler_id);
extern bool dbopt_handler_slot_is_free(void);

/*
 * By a scheduler, before it attaches its handlers, and after that if all of them
 * have a slot: one that does not is told when some slot becomes free.
 */
extern void dbopt_handlers_want(Oid dboid, bool wanting);
extern void dbopt_handler_release(Oid dboid, int32 handler_id);
extern void dbopt_handlers_release(Oid dboid);

/* Those of all databases that do not exist; asked under the lock. */
extern void dbopt_handlers_release_unless(bool (*exists) (Oid dboid));

/* A consistent copy for reports.  false: the handler has no slot. */
extern bool dbopt_handler_copy(Oid dboid, int32 handler_id,
							   DbOptHandlerState *copy);

/*
 * Asks the breaker for "wanted" events, and gives it the configuration that
 * is in force from now on.  What it rejects is counted, in the breaker and in
 * the handler's counters.
 */
extern DbOptAdmission dbopt_circuit_admit(int slot,
										  const DbOptBreakerConfig *config,
										  int wanted);
extern void dbopt_circuit_success(int slot, const DbOptAdmission *admission,
								  int count);
extern void dbopt_circuit_failure(int slot, const DbOptAdmission *admission,
								  bool retryable);
extern void dbopt_circuit_abandon(int slot, const DbOptAdmission *admission,
								  int unreported);
extern void dbopt_circuit_release(int slot, const DbOptAdmission *admission,
								  int unused);

/* By hand: closed now; open until reset. */
extern void dbopt_circuit_reset(int slot);
extern void dbopt_circuit_trip(int slot);

/* 0: not blocked; else when to ask again (PG_INT64_MAX: after a reset) */
extern TimestampTz dbopt_circuit_blocked_until(int slot);

/* Lowers the time of the handler's first retry; wakes the scheduler if so. */
extern void dbopt_handler_retry_at(int slot, TimestampTz at);

#endif							/* DBOPT_CIRCUIT_H */
