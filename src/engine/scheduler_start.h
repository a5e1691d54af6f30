/*
 * scheduler_start.h
 *		The launcher's picture of a database, and of its scheduler.
 */
#ifndef DBOPT_SCHEDULER_START_H
#define DBOPT_SCHEDULER_START_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

/* A database, as the launcher knows it. */
typedef struct DbOptEntry
{
	Oid			dboid;			/* hash key */
	bool		listed;			/* takes connections and is no template */
	int			slot;			/* -1: none, and no scheduler */
	uint32		generation;
	BackgroundWorkerHandle *handle; /* NULL: not started by this launcher */
	TimestampTz start_at;		/* of the next scheduler; DBOPT_NEVER: none is
								 * wanted, or one is there */
	int			failures;		/* in a row */
	int			unslotted;		/* of these, without a worker slot */
	bool		again;			/* told to look while a scheduler was there */
	bool		held;			/* start_at is the end of a hold */
} DbOptEntry;

/*
 * Starts the scheduler, which is due; false: it is put off.
 */
extern bool dbopt_scheduler_start(DbOptEntry *entry, TimestampTz now);

/*
 * Sees what has become of the scheduler.  True: it has not yet said whether the
 * extension is there.  Sets *rescan when the database may have gone.
 */
extern bool dbopt_scheduler_watch(DbOptEntry *entry, TimestampTz now,
								  bool *rescan);

/* Gives the entry's slot back; nothing runs in it. */
extern void dbopt_scheduler_release(DbOptEntry *entry);

#endif							/* DBOPT_SCHEDULER_START_H */
