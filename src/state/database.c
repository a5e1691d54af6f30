/*
 * database.c
 *		The slots of databases, as the launcher gives them out.
 *
 * Run by the launcher, under dbopt_shared->lock.  A slot is its database's
 * while the launcher knows that the extension is there; the generation moves
 * with each scheduler that is started.  Schedulers count times in it.
 */
#include "postgres.h"

#include "policy/health.h"
#include "state/database.h"
#include "state/history.h"
#include "state/hold.h"
#include "utils/timestamp.h"

static int
find_free_slot(void)
{
	int			i;

	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
		if (!OidIsValid(dbopt_database_slot(i)->dboid))
			return i;
	return -1;
}

static void
clear_counts(DbOptDatabase *database)
{
	int			i;

	for (i = 0; i < DBOPT_POOL_EVENTS; i++)
		pg_atomic_write_u64(&database->pool_events[i], 0);
	memset(&database->acquire_times, 0, sizeof(database->acquire_times));
	memset(&database->create_times, 0, sizeof(database->create_times));
	database->acquire_total = database->create_total = 0;
}

static void
fill_slot(DbOptDatabase *database, Oid dboid)
{
	if (database->dboid != dboid)
	{
		clear_counts(database);
		database->missing_since = GetCurrentTimestamp();
		dbopt_history_begin(database, dboid);
		memset(&database->refused, 0, sizeof(database->refused));
		pg_atomic_write_u32(&database->health_told, DBOPT_HEALTHY);
		pg_atomic_write_u32(&database->probation,
							dbopt_shared->unclean_start ?
							DBOPT_PROBATION_AHEAD : DBOPT_PROBATION_OVER);
	}
	database->dboid = dboid;
	database->generation++;
	database->state = DBOPT_SCHEDULER_STARTING;
	database->scheduler_pid = 0;
	database->held_down = false;
	pg_atomic_write_u32(&database->wants_session, 0);
}

DbOptPrepare
dbopt_database_prepare(Oid dboid, int *slot, uint32 *generation,
					   TimestampTz *until)
{
	DbOptPrepare result = DBOPT_PREPARE_NO_SLOT;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (*slot < 0)
		*slot = find_free_slot();
	if (*slot >= 0)
	{
		fill_slot(dbopt_database_slot(*slot), dboid);
		*generation = dbopt_database_slot(*slot)->generation;
		*until = dbopt_held_until(dboid);
		result = *until != 0 ? DBOPT_PREPARE_HELD : DBOPT_PREPARE_DONE;
	}
	LWLockRelease(dbopt_shared->lock);
	return result;
}

void
dbopt_database_release(int slot)
{
	DbOptDatabase *database = dbopt_database_slot(slot);

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	database->dboid = InvalidOid;
	database->generation++;
	pg_atomic_write_u32(&database->wants_session, 0);
	LWLockRelease(dbopt_shared->lock);
}

Oid
dbopt_database_adopt(int slot, uint32 *generation)
{
	DbOptDatabase *database = dbopt_database_slot(slot);
	Oid			dboid;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	dboid = database->dboid;
	if (OidIsValid(dboid) && database->scheduler_pid == 0)
		database->generation++;
	*generation = database->generation;
	LWLockRelease(dbopt_shared->lock);
	return dboid;
}

bool
dbopt_database_on_probation(int slot)
{
	DbOptDatabase *database = dbopt_database_slot(slot);
	DbOptSchedulerState state;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	state = database->state;
	LWLockRelease(dbopt_shared->lock);
	if (state == DBOPT_SCHEDULER_RUNNING)
		return pg_atomic_read_u32(&database->probation) !=
			DBOPT_PROBATION_OVER;
	return state == DBOPT_SCHEDULER_STARTING;
}

static void
count_time(DbOptHistogram *times, uint64 *total, int64 microseconds)
{
	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));

	microseconds = Max(microseconds, 0);
	times->buckets[dbopt_histogram_bucket(microseconds)]++;
	*total += microseconds;
}

void
dbopt_database_count_acquire(DbOptDatabase *database, int64 microseconds)
{
	count_time(&database->acquire_times, &database->acquire_total,
			   microseconds);
}

void
dbopt_database_count_create(DbOptDatabase *database, int64 microseconds)
{
	count_time(&database->create_times, &database->create_total,
			   microseconds);
}
