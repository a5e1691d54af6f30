/*
 * handler_slot.c
 *		The slots of handlers in shared memory.
 *
 * Run by schedulers, which give handlers their slots and take them back, by
 * pool sessions, and by the SQL functions that report.  Slots are found and
 * given out under dbopt_shared->lock; there are few enough to look through.
 */
#include "postgres.h"

#include "state/circuit.h"
#include "state/news.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

int
dbopt_handler_find_locked(Oid dboid, int32 handler_id)
{
	Assert(LWLockHeldByMe(dbopt_shared->lock));

	for (int number = 0; number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		if (state->dboid == dboid &&
			(!OidIsValid(dboid) || state->handler_id == handler_id))
			return number;
	}
	return -1;
}

/* Everything about a slot but its identity, as for a new handler. */
static void
clear_slot(DbOptHandlerState *state)
{
	TimestampTz now = GetCurrentTimestamp();

	pg_atomic_write_u64(&state->next_retry_at, PG_INT64_MAX);
	pg_atomic_write_u32(&state->in_flight, 0);
	pg_atomic_write_u32(&state->stalled_by, 0);
	pg_atomic_write_u32(&state->excused_by, 0);

	SpinLockAcquire(&state->mutex);
	memset(&state->breaker_config, 0, sizeof(state->breaker_config));
	memset(&state->breaker, 0, sizeof(state->breaker));
	memset(&state->breaker_log, 0, sizeof(state->breaker_log));
	memset(&state->counters, 0, sizeof(state->counters));
	memset(&state->minutes, 0, sizeof(state->minutes));
	state->failure_rate = 0;
	state->mean_time = 0;
	state->last_error_code[0] = '\0';
	state->last_error[0] = '\0';
	state->last_error_at = 0;
	state->last_success_at = 0;
	state->stats_since = now;
	memset(state->log_budgets, 0, sizeof(state->log_budgets));
	state->departed_at = 0;
	memset(state->departures, 0, sizeof(state->departures));
	SpinLockRelease(&state->mutex);
}

static void
warn_full(const char *name)
{
	static bool warned = false;

	if (warned)
		return;
	warned = true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("handler \"%s\" runs without a circuit breaker and without statistics",
					name),
			 errdetail("All %d slots are in use.", dbopt_shared->max_handlers),
			 errhint("Consider increasing the configuration parameter \"dbopt.max_handlers\".")));
}

/*
 * What was known of the handler of this number is of no use to one of another
 * extension: this one has been dropped and created again.
 */
static void
take_slot(DbOptHandlerState *state, Oid dboid, Oid extension,
		  int32 handler_id)
{
	if (state->dboid != dboid || (OidIsValid(state->extension) &&
								  state->extension != extension))
	{
		clear_slot(state);
		state->generation++;
	}
	state->dboid = dboid;
	state->extension = extension;
	state->handler_id = handler_id;
}

/*
 * The slot of a handler, which is given one if it has none; its name is
 * brought up to date.  -1: all are taken, or the library is not preloaded.
 */
int
dbopt_handler_attach(Oid dboid, Oid extension, int32 handler_id,
					 const char *name)
{
	int			number;

	if (dbopt_shared == NULL)
		return -1;

	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	number = dbopt_handler_find_locked(dboid, handler_id);
	if (number < 0)
		number = dbopt_handler_find_locked(InvalidOid, 0);
	if (number >= 0)
	{
		take_slot(dbopt_handler_slot(number), dboid, extension, handler_id);
		namestrcpy(&dbopt_handler_slot(number)->name, name);
	}
	LWLockRelease(dbopt_shared->lock);

	if (number < 0)
		warn_full(name);
	return number;
}

/* The slot of a handler, or -1. */
int
dbopt_handler_find(Oid dboid, int32 handler_id)
{
	int			number;

	if (dbopt_shared == NULL)
		return -1;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	number = dbopt_handler_find_locked(dboid, handler_id);
	LWLockRelease(dbopt_shared->lock);
	return number;
}

void
dbopt_handlers_want(Oid dboid, bool wanting)
{
	DbOptDatabase *database;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(dboid);
	if (database != NULL)
		pg_atomic_write_u32(&database->wants_handler, wanting ? 1 : 0);
	LWLockRelease(dbopt_shared->lock);
}

bool
dbopt_handler_slot_is_free(void)
{
	bool		found;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	found = dbopt_handler_find_locked(InvalidOid, 0) >= 0;
	LWLockRelease(dbopt_shared->lock);
	return found;
}

/* Has schedulers whose handlers have found no slot look for one again. */
static void
tell_wanting(void)
{
	Assert(LWLockHeldByMeInMode(dbopt_shared->lock, LW_EXCLUSIVE));

	for (int i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		DbOptDatabase *database = dbopt_database_slot(i);

		if (database->scheduler_pid == 0 ||
			pg_atomic_exchange_u32(&database->wants_handler, 0) == 0)
			continue;
		dbopt_news_put_config(database);
		dbopt_process_wake(database->scheduler_procno);
	}
}

/* Gives a slot back: the handler is no longer registered. */
void
dbopt_handler_release(Oid dboid, int32 handler_id)
{
	int			number;

	if (dbopt_shared == NULL)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	number = dbopt_handler_find_locked(dboid, handler_id);
	if (number >= 0)
	{
		dbopt_handler_slot(number)->dboid = InvalidOid;
		tell_wanting();
	}
	LWLockRelease(dbopt_shared->lock);
}

/* Those of one database, or with InvalidOid of all that do not exist. */
static void
release_slots(Oid dboid, bool (*exists) (Oid dboid))
{
	bool		found = false;

	if (dbopt_shared == NULL)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	for (int number = 0; number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		if (!OidIsValid(state->dboid) ||
			(OidIsValid(dboid) ? state->dboid != dboid : exists(state->dboid)))
			continue;
		state->dboid = InvalidOid;
		found = true;
	}
	if (found)
		tell_wanting();
	LWLockRelease(dbopt_shared->lock);
}

/* Gives all slots of a database back: its extension is dropped. */
void
dbopt_handlers_release(Oid dboid)
{
	release_slots(dboid, NULL);
}

void
dbopt_handlers_release_unless(bool (*exists) (Oid dboid))
{
	release_slots(InvalidOid, exists);
}

bool
dbopt_handler_copy(Oid dboid, int32 handler_id, DbOptHandlerState *copy)
{
	int			number;

	if (dbopt_shared == NULL)
		return false;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	number = dbopt_handler_find_locked(dboid, handler_id);
	if (number >= 0)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		SpinLockAcquire(&state->mutex);
		*copy = *state;
		SpinLockRelease(&state->mutex);
	}
	LWLockRelease(dbopt_shared->lock);
	return number >= 0;
}

void
dbopt_handler_retry_at(int slot, TimestampTz at)
{
	DbOptHandlerState *state;
	uint64		known;
	Oid			dboid;

	if (slot < 0 || dbopt_shared == NULL)
		return;

	state = dbopt_handler_slot(slot);
	known = pg_atomic_read_u64(&state->next_retry_at);
	do
	{
		if ((TimestampTz) known <= at)
			return;
	} while (!pg_atomic_compare_exchange_u64(&state->next_retry_at, &known,
											 (uint64) at));

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	dboid = state->dboid;
	LWLockRelease(dbopt_shared->lock);
	if (OidIsValid(dboid))
		dbopt_scheduler_wake(dboid);
}
