/*
 * worker.h
 *		What dbopt's background processes have in common.
 */
#ifndef DBOPT_WORKER_H
#define DBOPT_WORKER_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

#define DBOPT_NEVER PG_INT64_MAX	/* as a time: not at all */

/* The slot that a worker is started for, of a database or of a session. */
typedef struct DbOptWorkerTarget
{
	int			slot;
	uint32		generation;
} DbOptWorkerTarget;

/* While the library is being preloaded; the only worker that is static. */
extern void dbopt_launcher_register(void);

/*
 * Has the postmaster start a worker, and tell this process when it starts and
 * ends.  The handle lives until it is pfree'd.  NULL: there is no free worker
 * slot.
 */
extern BackgroundWorkerHandle *dbopt_worker_start(const char *type,
												  const char *function,
												  DbOptWorkerTarget target);

/* In a worker: what it was started for. */
extern DbOptWorkerTarget dbopt_worker_target(void);

extern void dbopt_worker_signals(void);

/*
 * Sleeps until the time given or until the latch is set, whichever is first,
 * and does what is asked of every process when it wakes.  Outside a
 * transaction.  Does not return in a process that has been told to end.
 */
extern void dbopt_worker_sleep(TimestampTz until, uint32 wait_event);

#endif							/* DBOPT_WORKER_H */
