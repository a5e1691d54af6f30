/*
 * scheduler_start.c
 *		Starting the schedulers, and seeing what becomes of them.
 *
 * Run by the launcher alone; takes dbopt_shared->lock, never across a call that
 * can fail.  A scheduler that ends is started again after a delay that grows
 * with each failure.  One that finds no background worker slot comes before
 * the sessions of other databases: one of these is asked for its own.
 */
#include "postgres.h"

#include <signal.h>

#include "engine/scheduler_start.h"
#include "engine/worker.h"
#include "policy/backoff.h"
#include "state/database.h"
#include "state/log_line.h"
#include "state/reclaim.h"
#include "utils/timestamp.h"

#define HEALTHY_US		(60 * USECS_PER_SEC)	/* running this long forgives
												 * earlier failures */
#define WORTH_LOGGING	3		/* failures in a row: nobody gave a slot up */

static const DbOptBackoff restart_backoff = {
	.base_delay = 1000000,
	.max_delay = 60000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

static void
forget_handle(DbOptEntry *entry)
{
	if (entry->handle != NULL)
		pfree(entry->handle);
	entry->handle = NULL;
}

void
dbopt_scheduler_release(DbOptEntry *entry)
{
	dbopt_database_release(entry->slot);
	entry->slot = -1;
	forget_handle(entry);
}

/*
 * The scheduler, or the attempt to start one, failed: try again later.  The
 * log has the problem, unless it is NULL.
 */
static void
put_off(DbOptEntry *entry, TimestampTz now, const char *problem)
{
	DbOptLogLine line = {.kind = DBOPT_LOG_POOL,.slot = -1};

	entry->failures++;
	entry->start_at = now + dbopt_backoff_base(&restart_backoff,
											   entry->failures);
	if (problem == NULL)
		return;
	line.message = psprintf("the scheduler for database %u %s",
							entry->dboid, problem);
	line.attempt = entry->failures;
	line.delay = entry->start_at - now;
	dbopt_log_line(&line);
}

/*
 * The scheduler has ended without leaving for good.
 */
static void
handle_end(DbOptEntry *entry, const DbOptDatabase *database, TimestampTz now,
		   bool *rescan)
{
	forget_handle(entry);
	*rescan = true;				/* the database may have gone */
	if (database->held_down || !entry->listed)
	{
		entry->start_at = now;
		return;
	}
	if (database->state == DBOPT_SCHEDULER_GONE &&
		now - database->started_at > HEALTHY_US)
		entry->failures = 0;
	put_off(entry, now, "has ended, and is started again");
}

/*
 * The scheduler did not find the extension, or not in a version that we know.
 * It may have changed since.  In a refused one writers find a slot to write to.
 */
static void
handle_absence(DbOptEntry *entry, DbOptSchedulerState state, TimestampTz now)
{
	forget_handle(entry);
	if (state == DBOPT_SCHEDULER_ABSENT || !entry->listed)
		dbopt_scheduler_release(entry);
	entry->failures = 0;
	if (entry->again)
		entry->start_at = now;
	entry->again = false;
}

/*
 * Is a worker that has not attached to its slot still to come?
 */
static bool
still_coming(DbOptEntry *entry)
{
	pid_t		pid;

	return entry->handle != NULL &&
		GetBackgroundWorkerPid(entry->handle, &pid) != BGWH_STOPPED;
}

/*
 * Reads the entry's slot, and ends a scheduler that should not be there: its
 * database has become a template, for example.
 */
static void
read_slot(DbOptEntry *entry, DbOptDatabase *copy)
{
	DbOptDatabase *database = dbopt_database_slot(entry->slot);

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	copy->state = database->state;
	copy->scheduler_pid = database->scheduler_pid;
	copy->held_down = database->held_down;
	copy->started_at = database->started_at;
	if (!entry->listed && database->scheduler_pid != 0)
		kill(database->scheduler_pid, SIGTERM);
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_scheduler_watch(DbOptEntry *entry, TimestampTz now, bool *rescan)
{
	DbOptDatabase copy;

	if (entry->slot < 0 || entry->start_at != DBOPT_NEVER)
		return false;
	read_slot(entry, &copy);
	switch (copy.state)
	{
		case DBOPT_SCHEDULER_STARTING:
			if (copy.scheduler_pid != 0 || still_coming(entry))
				return true;
			handle_end(entry, &copy, now, rescan);
			break;
		case DBOPT_SCHEDULER_RUNNING:
			break;
		case DBOPT_SCHEDULER_ABSENT:
		case DBOPT_SCHEDULER_REFUSED:
			handle_absence(entry, copy.state, now);
			break;
		case DBOPT_SCHEDULER_GONE:
			handle_end(entry, &copy, now, rescan);
			break;
	}
	return false;
}

/*
 * No background worker slot is free.  When the log says so, nobody has given
 * one up.
 */
static void
handle_scarcity(DbOptEntry *entry, TimestampTz now)
{
	entry->unslotted++;
	put_off(entry, now,
			entry->unslotted == WORTH_LOGGING ?
			"finds no free slot for a background worker, and is tried again; consider increasing max_worker_processes" : NULL);
	dbopt_reclaim_session(entry->slot);
}

bool
dbopt_scheduler_start(DbOptEntry *entry, TimestampTz now)
{
	DbOptWorkerTarget target;
	DbOptPrepare prepared = dbopt_database_prepare(entry->dboid, &entry->slot,
												   &entry->generation,
												   &entry->start_at);

	entry->held = prepared == DBOPT_PREPARE_HELD;
	if (prepared == DBOPT_PREPARE_NO_SLOT)
		put_off(entry, now,
				psprintf("finds no place, since %d databases have one, and is tried again",
						 DBOPT_MAX_DATABASES));
	if (prepared != DBOPT_PREPARE_DONE)
		return false;

	target.slot = entry->slot;
	target.generation = entry->generation;
	entry->handle = dbopt_worker_start("dbopt scheduler",
									   "dbopt_scheduler_main", target);
	if (entry->handle == NULL)
	{
		handle_scarcity(entry, now);
		return false;
	}
	entry->start_at = DBOPT_NEVER;
	entry->unslotted = 0;
	return true;
}
