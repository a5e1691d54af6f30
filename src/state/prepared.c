/*
 * prepared.c
 *		The notes of prepared transactions, in shared memory.
 *
 * There are as many places as max_prepared_transactions, all under
 * dbopt_shared->lock.  Every transaction that is prepared gets one, also when
 * it has nothing to note: a transaction without one was prepared before the
 * server started, and may have written anything.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "state/prepared.h"
#include "storage/procarray.h"

uint64
dbopt_prepared_hash(const char *gid)
{
	return hash_bytes_extended((const unsigned char *) gid, strlen(gid), 0);
}

/*
 * The place of a transaction of this database, InvalidOid finds a free one.
 */
static DbOptPrepared *
find_place(Oid dboid, uint64 gid)
{
	int			i;

	Assert(LWLockHeldByMe(dbopt_shared->lock));
	for (i = 0; i < dbopt_shared->max_prepared; i++)
	{
		DbOptPrepared *place = dbopt_prepared_slot(i);

		if (place->dboid == dboid && (!OidIsValid(dboid) || place->gid == gid))
			return place;
	}
	return NULL;
}

void
dbopt_prepared_put(const DbOptPrepared *prepared)
{
	DbOptPrepared *place;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	place = find_place(InvalidOid, 0);
	if (place != NULL)
		*place = *prepared;
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_prepared_take(uint64 gid, DbOptPrepared *prepared)
{
	DbOptPrepared *place;
	bool		found;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	place = find_place(MyDatabaseId, gid);
	found = place != NULL;
	if (found)
	{
		*prepared = *place;
		place->dboid = InvalidOid;
	}
	LWLockRelease(dbopt_shared->lock);
	return found;
}

bool
dbopt_prepared_take_ended(DbOptPrepared *prepared)
{
	bool		taken = false;

	for (int i = 0; i < dbopt_shared->max_prepared && !taken; i++)
	{
		DbOptPrepared *place = dbopt_prepared_slot(i);

		LWLockAcquire(dbopt_shared->lock, LW_SHARED);
		*prepared = *place;
		LWLockRelease(dbopt_shared->lock);
		if (prepared->dboid != MyDatabaseId || prepared->gid != 0 ||
			TransactionIdIsInProgress(prepared->xid))
			continue;

		LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
		taken = place->dboid == MyDatabaseId && place->gid == 0 &&
			place->xid == prepared->xid;
		if (taken)
			place->dboid = InvalidOid;
		LWLockRelease(dbopt_shared->lock);
	}
	return taken;
}
