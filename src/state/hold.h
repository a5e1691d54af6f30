/*
 * hold.h
 *		Keeping dbopt's workers out of a database, or away from dbopt's tables,
 *		while a command needs it.
 */
#ifndef DBOPT_HOLD_H
#define DBOPT_HOLD_H

#include "state/shmem.h"

/*
 * Ends the database's scheduler and sessions, waits until they are gone
 * (dbopt.shutdown_timeout at most), and keeps new ones away until this
 * (sub)transaction is rolled back, the transaction ends, or 30 seconds are over.
 * The caller has checked the user's rights.
 */
extern void dbopt_hold_database(Oid dboid);

/*
 * The same before a command that drops the extension of this database, however
 * long that takes, but for sessions that build indexes: they end their builds,
 * drop what those have left, and are waited for only until they leave dbopt's
 * tables alone.
 */
extern void dbopt_hold_extension(void);

/*
 * The same before a command that updates the extension of this database, but
 * for sessions that run the SQL of callers, or build indexes: they finish that,
 * and are not waited for.
 */
extern void dbopt_hold_update(void);

/* Until when the database is held; 0: it is not.  Under dbopt_shared->lock. */
extern TimestampTz dbopt_held_until(Oid dboid);

#endif							/* DBOPT_HOLD_H */
