/*
 * prepared.h
 *		What prepared transactions have noted, until they are committed, by
 *		whichever backend.
 */
#ifndef DBOPT_PREPARED_H
#define DBOPT_PREPARED_H

#include "state/shmem.h"

extern uint64 dbopt_prepared_hash(const char *gid);

/* Cannot fail; without a free place the notes are lost. */
extern void dbopt_prepared_put(const DbOptPrepared *prepared);

/* Forgets the transaction.  False: nothing is known about it. */
extern bool dbopt_prepared_take(uint64 gid, DbOptPrepared *prepared);

/*
 * Forgets a transaction of this database that no statement has prepared, and that
 * has ended.  False: there is none.
 */
extern bool dbopt_prepared_take_ended(DbOptPrepared *prepared);

#endif							/* DBOPT_PREPARED_H */
