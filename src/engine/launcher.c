/*
 * launcher.c
 *		Finds the databases that have the extension, and keeps a scheduler
 *		alive in each.
 *
 * One process per cluster, connected to no database.  Whether a database has
 * the extension can be seen only from inside, so the launcher starts a
 * scheduler in each database, a few at a time; one that does not find the
 * extension leaves for good.  After that the launcher looks at a database only
 * when it is told to (launcher_news.c), and sleeps otherwise.
 *
 * It owns the DbOptDatabase slots; it takes dbopt_shared->lock, never across
 * a call that can fail.  Should the launcher itself be started anew, it finds
 * the running schedulers in their slots and leaves them alone.
 */
#include "postgres.h"

#include "compat.h"
#include "engine/database_list.h"
#include "engine/launcher.h"
#include "engine/scheduler_start.h"
#include "engine/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/circuit.h"
#include "state/database.h"
#include "state/news.h"
#include "state/solo.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_STARTING	3
#define JUDGE_US		(30 * USECS_PER_SEC)	/* a database that is still on
												 * probation then is not
												 * waited for */

static HTAB *entries;
static bool rescan;				/* pg_database has to be read */
static TimestampTz judge_until;
static int	nstarting;			/* schedulers that have not yet said whether
								 * the extension is there */
static bool at_work = false;	/* this launcher has finished a round */

static DbOptEntry *
find_entry(Oid dboid)
{
	return hash_search(entries, &dboid, HASH_FIND, NULL);
}

static DbOptEntry *
make_entry(Oid dboid)
{
	bool		found;
	DbOptEntry *entry;

	entry = hash_search(entries, &dboid, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(*entry));
		entry->dboid = dboid;
		entry->listed = true;	/* until the next scan says otherwise */
		entry->slot = -1;
		entry->start_at = DBOPT_NEVER;
	}
	return entry;
}

static void
watch_entries(TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	DbOptEntry *entry;

	nstarting = 0;
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (dbopt_scheduler_watch(entry, now, &rescan))
			nstarting++;
}

/*
 * Somebody says that something may have changed in this database.
 */
static void
look_again(DbOptEntry *entry, TimestampTz now)
{
	rescan = true;
	if (entry->held || (entry->slot < 0 && entry->failures == 0))
		entry->start_at = now;
	else
		entry->again = true;
}

static void
read_news(TimestampTz now)
{
	DbOptLauncherNews news;
	HASH_SEQ_STATUS scan;
	DbOptEntry *entry;
	int			i;

	if (!dbopt_launcher_news_take(&news))
		return;
	for (i = 0; i < news.count; i++)
		look_again(make_entry(news.dboids[i]), now);
	if (news.many)
	{
		rescan = true;
		hash_seq_init(&scan, entries);
		while ((entry = hash_seq_search(&scan)) != NULL)
			look_again(entry, now);
	}
}

static bool
is_known(Oid dboid)
{
	return find_entry(dboid) != NULL;
}

/*
 * Reads pg_database: what is new there is looked at, what has gone forgotten.
 * Slots of handlers may be those of a database that was dropped while no
 * launcher was there to see it.
 */
static void
scan_databases(TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	DbOptEntry *entry;
	ListCell   *cell;

	rescan = false;
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->listed = false;

	foreach(cell, dbopt_list_databases())
	{
		Oid			dboid = lfirst_oid(cell);

		entry = find_entry(dboid);
		if (entry == NULL)
		{
			entry = make_entry(dboid);
			entry->start_at = now;
		}
		entry->listed = true;
	}

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->listed || (entry->slot >= 0 &&
							  entry->start_at == DBOPT_NEVER))
			continue;
		if (entry->slot >= 0)
			dbopt_scheduler_release(entry);
		hash_search(entries, &entry->dboid, HASH_REMOVE, NULL);
	}
	dbopt_handlers_release_unless(is_known);
}

/*
 * Starts what is due, and says when something will be.
 */
static TimestampTz
start_due(TimestampTz now)
{
	TimestampTz next = DBOPT_NEVER;
	HASH_SEQ_STATUS scan;
	DbOptEntry *entry;

	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->listed)
			continue;
		if (entry->start_at <= now && nstarting < MAX_STARTING &&
			dbopt_scheduler_start(entry, now))
			nstarting++;
		if (entry->start_at > now)
			next = Min(next, entry->start_at);
	}
	return next;
}

/*
 * Is this database on probation, or may it yet be?
 */
static bool
is_on_probation(const DbOptEntry *entry)
{
	if (!entry->listed || entry->held || entry->failures > 0)
		return false;
	if (entry->slot < 0 || entry->start_at != DBOPT_NEVER)
		return entry->start_at != DBOPT_NEVER;
	return dbopt_database_on_probation(entry->slot);
}

/*
 * After an unclean end: when all databases have run what may have caused it,
 * they may go on with the rest.  A scheduler may be kept from its rounds, by a
 * lock for one: the others do not wait for it for ever.  Returns when to look
 * again.
 */
static TimestampTz
end_probation(TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	DbOptEntry *entry;
	bool		on = false;

	if (pg_atomic_read_u32(&dbopt_shared->probation) == 0)
		return DBOPT_NEVER;
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
		on = on || is_on_probation(entry);
	if (on && now < judge_until)
		return judge_until;
	pg_atomic_write_u32(&dbopt_shared->probation, 0);
	dbopt_schedulers_wake();
	return DBOPT_NEVER;
}

/*
 * Returns when the next round is due.
 */
static TimestampTz
launcher_round(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;

	read_news(now);
	watch_entries(now);
	if (rescan)
	{
		scan_databases(now);
		watch_entries(now);		/* some may be listed no longer */
	}
	next = start_due(now);
	return Min(next, end_probation(now));
}

/*
 * Takes over the slots of an earlier launcher.
 */
static void
adopt_slots(void)
{
	int			i;

	for (i = 0; i < DBOPT_MAX_DATABASES; i++)
	{
		uint32		generation;
		Oid			dboid = dbopt_database_adopt(i, &generation);
		DbOptEntry *entry;

		if (!OidIsValid(dboid))
			continue;
		entry = make_entry(dboid);
		entry->slot = i;
		entry->generation = generation;
	}
}

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	if (dbopt_shared->launcher_pid == MyProcPid)
	{
		dbopt_shared->launcher_pid = 0;
		if (at_work)
			dbopt_shared->launcher_left_at = GetCurrentTimestamp();
	}
	LWLockRelease(dbopt_shared->lock);
}

static void
launcher_attach(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(DbOptEntry)};

	on_shmem_exit(launcher_exit, (Datum) 0);
	LWLockAcquire(dbopt_shared->lock, LW_EXCLUSIVE);
	dbopt_shared->launcher_pid = MyProcPid;
	dbopt_shared->launcher_procno = DBOPT_MY_PROC_NUMBER;
	LWLockRelease(dbopt_shared->lock);

	entries = hash_create("dbopt launcher", 64, &control,
						  HASH_ELEM | HASH_BLOBS);
	adopt_slots();
	rescan = true;
	judge_until = GetCurrentTimestamp() + JUDGE_US;
}

void
dbopt_launcher_main(Datum main_arg)
{
	uint32		wait_event;
	MemoryContext round_context;

	launcher_attach();
	dbopt_worker_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "dbopt launcher", PGC_BACKEND,
					PGC_S_OVERRIDE);
	DBOPT_DISABLE_TRANSACTION_TIMEOUT();
	wait_event = DBOPT_WAIT_EVENT("DboptLauncherMain");
	round_context = AllocSetContextCreate(TopMemoryContext, "dbopt round",
										  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		TimestampTz next;

		MemoryContextSwitchTo(round_context);
		next = launcher_round();
		at_work = true;
		MemoryContextReset(round_context);
		dbopt_worker_sleep(next, wait_event);
	}
}
