/*
 * launcher_news.c
 *		Which databases the launcher should look at: told by whoever creates or
 *		drops an extension or a database, and by workers that end.
 */
#include "postgres.h"

#include "state/news.h"
#include "storage/spin.h"

static void
add_database(DbOptLauncherNews *news, Oid dboid)
{
	int			i;

	for (i = 0; i < news->count; i++)
		if (news->dboids[i] == dboid)
			return;
	if (OidIsValid(dboid) && news->count < DBOPT_LAUNCHER_NEWS_SIZE)
		news->dboids[news->count++] = dboid;
	else
		news->many = true;
}

/*
 * Tells the launcher to look at a database, InvalidOid for all, and wakes it.
 * Cannot fail.
 */
void
dbopt_launcher_news_put(Oid dboid)
{
	SpinLockAcquire(&dbopt_shared->launcher_mutex);
	add_database(&dbopt_shared->launcher_news, dboid);
	SpinLockRelease(&dbopt_shared->launcher_mutex);
	dbopt_launcher_wake();
}

/*
 * The launcher takes what there is.  False: nothing.
 */
bool
dbopt_launcher_news_take(DbOptLauncherNews *news)
{
	SpinLockAcquire(&dbopt_shared->launcher_mutex);
	*news = dbopt_shared->launcher_news;
	dbopt_shared->launcher_news.count = 0;
	dbopt_shared->launcher_news.many = false;
	SpinLockRelease(&dbopt_shared->launcher_mutex);

	return news->count > 0 || news->many;
}

void
dbopt_launcher_wake(void)
{
	bool		running;
	int			procno;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	running = dbopt_shared->launcher_pid != 0;
	procno = dbopt_shared->launcher_procno;
	LWLockRelease(dbopt_shared->lock);

	if (running)
		dbopt_process_wake(procno);
}
