/*
 * shmem.c
 *		Allocates dbopt's segment of shared memory and finds things in it.
 *
 * Runs in the postmaster at start, and again when it starts over after a
 * crash.  shmem.h says which rule protects which field.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/twophase.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "state/guc.h"
#include "state/shmem.h"
#include "state/stats.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

DbOptShared *dbopt_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static DbOptSession *sessions;
static DbOptHandlerState *handlers;
static DbOptPrepared *prepared;
static DbOptCaller *callers;

static Size
sessions_offset(void)
{
	return MAXALIGN(sizeof(DbOptShared));
}

static Size
handlers_offset(void)
{
	return add_size(sessions_offset(),
					MAXALIGN(mul_size(dbopt_session_slots(),
									  sizeof(DbOptSession))));
}

static Size
prepared_offset(void)
{
	return add_size(handlers_offset(),
					MAXALIGN(mul_size(dbopt_max_handlers,
									  sizeof(DbOptHandlerState))));
}

static Size
callers_offset(void)
{
	return add_size(prepared_offset(),
					MAXALIGN(mul_size(max_prepared_xacts,
									  sizeof(DbOptPrepared))));
}

static Size
shared_size(void)
{
	return add_size(callers_offset(),
					mul_size(MaxBackends, sizeof(DbOptCaller)));
}

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("dbopt", 1);
}

static void
init_databases(void)
{
	int			i;
	int			event;

	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		DbOptDatabase *database = &dbopt_shared->databases[i];

		pg_atomic_init_u32(&database->wants_session, 0);
		pg_atomic_init_u32(&database->reclaim, 0);
		pg_atomic_init_u32(&database->wants_handler, 0);
		pg_atomic_init_u64(&database->news_taken, 1);
		pg_atomic_init_u32(&database->active, 0);
		pg_atomic_init_u32(&database->pending, 0);
		pg_atomic_init_u32(&database->waiting, 0);
		for (event = 0; event < DBOPT_POOL_EVENTS; event++)
			pg_atomic_init_u64(&database->pool_events[event], 0);
		pg_atomic_init_u32(&database->probation, DBOPT_PROBATION_OVER);
		pg_atomic_init_u64(&database->rounds, 0);
		SpinLockInit(&database->news_mutex);
		SpinLockInit(&database->minutes_mutex);
	}
}

static void
init_sessions(void)
{
	int			i;

	for (i = 0; i < dbopt_shared->max_sessions; i++)
	{
		pg_atomic_init_u32(&sessions[i].more, 0);
		pg_atomic_init_u32(&sessions[i].unseen, 0);
		pg_atomic_init_u32(&sessions[i].yield, 0);
		pg_atomic_init_u64(&sessions[i].looked_at, 0);
		pg_atomic_init_u64(&sessions[i].cancel, 0);
	}
}

static void
init_handlers(void)
{
	int			i;

	for (i = 0; i < dbopt_shared->max_handlers; i++)
	{
		pg_atomic_init_u64(&handlers[i].next_retry_at, PG_INT64_MAX);
		pg_atomic_init_u32(&handlers[i].in_flight, 0);
		SpinLockInit(&handlers[i].mutex);
	}
}

static void
init_shared(void)
{
	memset(dbopt_shared, 0, shared_size());
	dbopt_shared->lock = &GetNamedLWLockTranche("dbopt")->lock;
	dbopt_shared->max_sessions = dbopt_session_slots();
	dbopt_shared->max_handlers = dbopt_max_handlers;
	dbopt_shared->max_prepared = max_prepared_xacts;
	dbopt_shared->max_callers = MaxBackends;
	dbopt_shared->cpus = (int) sysconf(_SC_NPROCESSORS_ONLN);
	pg_atomic_init_u32(&dbopt_shared->probation, 0);
	pg_atomic_init_u32(&dbopt_shared->callers, 0);
	if (!pg_strong_random(&dbopt_shared->incarnation,
						  sizeof(dbopt_shared->incarnation)))
		dbopt_shared->incarnation = GetCurrentTimestamp();
	dbopt_shared->started_at = GetCurrentTimestamp();
	ConditionVariableInit(&dbopt_shared->worker_gone);
	SpinLockInit(&dbopt_shared->launcher_mutex);
	SpinLockInit(&dbopt_shared->log_mutex);
	init_databases();
	init_sessions();
	init_handlers();
}

/*
 * How its primary has ended, a standby cannot know.
 */
static bool
is_standby(void)
{
	return access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
		access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
}

static void
startup_shmem(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	dbopt_shared = ShmemInitStruct("dbopt", shared_size(), &found);
	sessions = (DbOptSession *) ((char *) dbopt_shared + sessions_offset());
	handlers = (DbOptHandlerState *)
		((char *) dbopt_shared + handlers_offset());
	prepared = (DbOptPrepared *) ((char *) dbopt_shared + prepared_offset());
	callers = (DbOptCaller *) ((char *) dbopt_shared + callers_offset());
	if (!found)
	{
		init_shared();
		dbopt_shared->unclean_start = !dbopt_stats_load() || is_standby();
		pg_atomic_write_u32(&dbopt_shared->probation,
							dbopt_shared->unclean_start ? 1 : 0);
	}
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(dbopt_stats_save, (Datum) 0);
}

/*
 * Called while the library is being preloaded, when all settings are defined.
 */
void
dbopt_shmem_hooks_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

DbOptDatabase *
dbopt_database_slot(int number)
{
	Assert(number >= 0 && number < DBOPT_MAX_DATABASES);
	return &dbopt_shared->databases[number];
}

/*
 * The database's slot, or NULL.  Under dbopt_shared->lock.
 */
DbOptDatabase *
dbopt_database_find(Oid dboid)
{
	int			i;

	Assert(LWLockHeldByMe(dbopt_shared->lock));
	Assert(OidIsValid(dboid));
	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
		if (dbopt_shared->databases[i].dboid == dboid)
			return &dbopt_shared->databases[i];
	return NULL;
}

DbOptSession *
dbopt_session_slot(int number)
{
	Assert(number >= 0 && number < dbopt_shared->max_sessions);
	return &sessions[number];
}

DbOptHandlerState *
dbopt_handler_slot(int number)
{
	Assert(number >= 0 && number < dbopt_shared->max_handlers);
	return &handlers[number];
}

DbOptPrepared *
dbopt_prepared_slot(int number)
{
	Assert(number >= 0 && number < dbopt_shared->max_prepared);
	return &prepared[number];
}

DbOptCaller *
dbopt_caller_slot(int number)
{
	Assert(number >= 0 && number < dbopt_shared->max_callers);
	return &callers[number];
}

/*
 * The process's latch stays where it is when the process ends, and whoever has
 * the number next just finds nothing to do.
 */
void
dbopt_process_wake(int procno)
{
	SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

void
dbopt_require_preload(void)
{
	if (dbopt_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dbopt is not preloaded"),
				 errhint("Add dbopt to the setting shared_preload_libraries and restart the server.")));
}
