/*
 * reclaim.h
 *		Having another database give up a session, for want of a slot.
 */
#ifndef DBOPT_RECLAIM_H
#define DBOPT_RECLAIM_H

#include "state/shmem.h"

/*
 * The database with this slot wants a session, or its scheduler, and has found
 * no slot of a session or of a background worker free.  Says so, so that others
 * do not start what nobody waits for, and asks the database that can best spare
 * a session to give one up.  Cannot fail.
 */
extern void dbopt_reclaim_session(int slot);

#endif							/* DBOPT_RECLAIM_H */
