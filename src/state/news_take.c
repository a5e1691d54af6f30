/*
 * news_take.c
 *		The scheduler's side of the news: taking them, and being woken.
 *
 * Taking takes the database's news mutex; waking takes dbopt_shared->lock
 * (shared).  Neither can fail.
 */
#include "postgres.h"

#include "state/news.h"
#include "storage/spin.h"

/*
 * The scheduler takes what there is.  False: nothing.  Moves news_taken after
 * that: a session that reads the new value, and then takes a snapshot, sees
 * all that these news are about.
 */
bool
dbopt_news_take(DbOptDatabase *database, DbOptNews *news)
{
	DbOptNews  *source = &database->news;

	SpinLockAcquire(&database->news_mutex);
	news->count = source->count;
	news->many = source->many;
	news->config = source->config;
	news->objects = source->objects;
	news->settings = source->settings;
	news->tables = source->tables;
	news->orphans = source->orphans;
	memcpy(news->types, source->types, source->count * sizeof(uint64));
	source->count = 0;
	source->many = false;
	source->config = false;
	source->objects = false;
	source->settings = false;
	source->tables = false;
	source->orphans = false;
	SpinLockRelease(&database->news_mutex);

	if (news->count == 0 && !news->many && !news->config && !news->objects &&
		!news->settings && !news->tables && !news->orphans)
		return false;
	pg_atomic_fetch_add_u64(&database->news_taken, 1);
	return true;
}

/*
 * Has the scheduler read its handlers again.
 */
void
dbopt_news_put_config(DbOptDatabase *database)
{
	SpinLockAcquire(&database->news_mutex);
	database->news.config = true;
	SpinLockRelease(&database->news_mutex);
}

/*
 * What a session had in its hands is nobody's now, and its scheduler is no
 * longer there to know.  The caller holds dbopt_shared->lock.
 */
void
dbopt_news_put_orphan(Oid dboid)
{
	DbOptDatabase *database = dbopt_database_find(dboid);

	if (database == NULL)
		return;
	SpinLockAcquire(&database->news_mutex);
	database->news.orphans = true;
	SpinLockRelease(&database->news_mutex);
}

/*
 * The scheduler need not be told of this event type: nobody would run its
 * events now.  Of two types with the same place the later one stays; the
 * other is announced as ever, which costs a wake-up and nothing else.
 */
void
dbopt_news_unwant(DbOptDatabase *database, uint64 type)
{
	SpinLockAcquire(&database->news_mutex);
	database->unwanted[type % DBOPT_UNWANTED_TYPES] = type;
	SpinLockRelease(&database->news_mutex);
}

/*
 * From now on every event type is announced.  Whoever takes a snapshot after
 * this sees the events of which nothing was said.
 */
void
dbopt_news_want_all(DbOptDatabase *database)
{
	SpinLockAcquire(&database->news_mutex);
	memset(database->unwanted, 0, sizeof(database->unwanted));
	SpinLockRelease(&database->news_mutex);
}

/*
 * Wakes the database's scheduler, if one is running.
 */
void
dbopt_scheduler_wake(Oid dboid)
{
	DbOptDatabase *database;
	bool		running = false;
	int			procno = 0;

	if (dbopt_shared == NULL)
		return;
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(dboid);
	if (database != NULL && database->scheduler_pid != 0)
	{
		running = true;
		procno = database->scheduler_procno;
	}
	LWLockRelease(dbopt_shared->lock);
	if (running)
		dbopt_process_wake(procno);
}
