/*
 * history.c
 *		A database's last hour, minute by minute.
 *
 * A ring in the database's slot, under a spinlock of its own: a session adds
 * the sum of a chunk to the present minute once, when the chunk is settled; the
 * scheduler says at the end of a round what the pool has to do; who reports
 * copies the ring.  The ring has its own mark of whose it is, so that a session
 * which outlives its database's slot counts in nobody else's.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "state/history.h"
#include "state/pool.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

void
dbopt_history_count(const DbOptCounters *part, TimestampTz now)
{
	DbOptMinuteCounts counts = {part->successes, part->failures,
	part->dead_letters, &part->times};
	DbOptDatabase *database;

	if (dbopt_my_session == NULL)
		return;
	database = dbopt_database_slot(dbopt_my_session->database);
	SpinLockAcquire(&database->minutes_mutex);
	if (database->minutes_dboid == MyDatabaseId)
		dbopt_database_minutes_add(&database->minutes, now, &counts);
	SpinLockRelease(&database->minutes_mutex);
}

void
dbopt_history_level(DbOptDatabase *database, uint32 used, uint32 waiting)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&database->minutes_mutex);
	dbopt_database_minutes_level(&database->minutes, now, used, waiting);
	SpinLockRelease(&database->minutes_mutex);
}

void
dbopt_history_peak(DbOptDatabase *database, uint32 used, TimestampTz now)
{
	SpinLockAcquire(&database->minutes_mutex);
	dbopt_database_minutes_peak(&database->minutes, now, used);
	SpinLockRelease(&database->minutes_mutex);
}

void
dbopt_history_begin(DbOptDatabase *database, Oid dboid)
{
	SpinLockAcquire(&database->minutes_mutex);
	memset(&database->minutes, 0, sizeof(database->minutes));
	database->minutes_dboid = dboid;
	SpinLockRelease(&database->minutes_mutex);
}

bool
dbopt_history_copy(Oid dboid, DbOptDatabaseMinutes *copy)
{
	DbOptDatabase *database;

	memset(copy, 0, sizeof(*copy));
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(dboid);
	if (database != NULL)
	{
		SpinLockAcquire(&database->minutes_mutex);
		*copy = database->minutes;
		SpinLockRelease(&database->minutes_mutex);
	}
	LWLockRelease(dbopt_shared->lock);
	return database != NULL;
}
