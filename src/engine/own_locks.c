/*
 * own_locks.c
 *		Locks of the lock manager on what is no table and no row.
 *
 * Run by pool sessions, the scheduler and backends that remove a handler.
 */
#include "postgres.h"

#include "engine/own_locks.h"
#include "miscadmin.h"
#include "storage/lock.h"

/* The fourth field of our locks' tags; those of advisory locks are 1 and 2. */
#define AGGREGATE_CLASS	0xDB0
#define HANDLER_CLASS	0xDB1

static bool
take_lock(uint32 field2, uint32 field3, uint16 class, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, field2, field3, class);
	tag.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

bool
dbopt_handler_lock(int32 handler_id, LOCKMODE mode, bool wait)
{
	return take_lock(0, (uint32) handler_id, HANDLER_CLASS, mode, wait);
}

void
dbopt_aggregate_lock(int32 handler_id, uint32 hash)
{
	(void) take_lock((uint32) handler_id, hash, AGGREGATE_CLASS, ExclusiveLock,
					 true);
}
