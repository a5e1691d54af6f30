/*
 * history.h
 *		A database's last hour, minute by minute (policy/minutes.h): what its
 *		sessions delivered, and what its pool had to do.
 *
 * Begins anew with the server, and when a database is given a slot.
 */
#ifndef DBOPT_HISTORY_H
#define DBOPT_HISTORY_H

#include "state/shmem.h"

/* For a pool session: a chunk was settled.  Others have no history. */
extern void dbopt_history_count(const DbOptCounters *part, TimestampTz now);

/* For a scheduler: sessions at work and jobs without one, from now on. */
/* So many sessions have been in use, whatever the level is. */
extern void dbopt_history_peak(DbOptDatabase *database, uint32 used,
							   TimestampTz now);

extern void dbopt_history_level(DbOptDatabase *database, uint32 used,
								uint32 waiting);

/* For the launcher: the slot is that of another database from now on. */
extern void dbopt_history_begin(DbOptDatabase *database, Oid dboid);

/* false, and an empty ring: the database has no slot. */
extern bool dbopt_history_copy(Oid dboid, DbOptDatabaseMinutes *copy);

#endif							/* DBOPT_HISTORY_H */
