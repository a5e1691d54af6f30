/*
 * pool_load.c
 *		How much of a database's session pool is in use.
 *
 * Run by backends that report and by the scheduler.  What it gives is
 * consistent in itself: the slots are read under dbopt_shared->lock.
 */
#include "postgres.h"

#include "state/guc.h"
#include "state/pool_load.h"
#include "state/shmem.h"

static void
count_session(DbOptPoolLoad *load, const DbOptSession *session)
{
	load->total++;
	if (session->state == DBOPT_SESSION_BUSY)
		load->used++;
	else if (session->state == DBOPT_SESSION_IDLE)
		load->free++;
}

void
dbopt_pool_load(Oid dboid, DbOptPoolLoad *load)
{
	DbOptDatabase *database;

	memset(load, 0, sizeof(*load));
	load->max = dbopt_pool_limits().max;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
	{
		if (dbopt_session_slot(i)->dboid == dboid)
			count_session(load, dbopt_session_slot(i));
	}
	database = dbopt_database_find(dboid);
	if (database != NULL)
		load->waiting = pg_atomic_read_u32(&database->waiting);
	LWLockRelease(dbopt_shared->lock);

	load->utilization = 100.0 * load->used / load->max;
	load->health = dbopt_health_of_pool(load->utilization, load->waiting);
}
