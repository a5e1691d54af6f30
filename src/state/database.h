/*
 * database.h
 *		The slots of databases, as the launcher gives them out.
 */
#ifndef DBOPT_DATABASE_H
#define DBOPT_DATABASE_H

#include "state/shmem.h"

typedef enum DbOptPrepare
{
	DBOPT_PREPARE_DONE,
	DBOPT_PREPARE_HELD,			/* no worker may start there at present */
	DBOPT_PREPARE_NO_SLOT
} DbOptPrepare;

/*
 * Makes the database's slot ready for a new scheduler, and finds one first
 * where *slot is -1.  When held, *until says for how long.
 */
extern DbOptPrepare dbopt_database_prepare(Oid dboid, int *slot,
										   uint32 *generation,
										   TimestampTz *until);
extern void dbopt_database_release(int slot);

/* Is the database on probation?  So is one whose scheduler cannot say yet. */
extern bool dbopt_database_on_probation(int slot);

/*
 * For a new launcher: whose slot this is, InvalidOid for nobody's.  A
 * scheduler that has not attached to it yet comes too late.
 */
extern Oid	dbopt_database_adopt(int slot, uint32 *generation);

/*
 * Under dbopt_shared->lock: a caller has got a session, and a session is
 * ready, after so long.
 */
extern void dbopt_database_count_acquire(DbOptDatabase *database,
										 int64 microseconds);
extern void dbopt_database_count_create(DbOptDatabase *database,
										int64 microseconds);

#endif							/* DBOPT_DATABASE_H */
