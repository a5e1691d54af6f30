/*
 * news.c
 *		Notes of a transaction, and their way into shared memory at commit.
 *
 * Noting runs in any backend, once for each row that is written: the type of
 * the row before is remembered, so that a long COPY of one type costs a memcmp
 * a row.  Publishing runs when the transaction has committed, where nothing
 * may fail: it allocates nothing and takes dbopt_shared->lock (shared), then
 * one news mutex.
 *
 * It waits for the last step of the commit: not only is the transaction
 * visible then, but the others have been sent the invalidations of what they
 * have cached, and its locks are gone.  (In the commit callback, which comes
 * before that, a scheduler was woken so early that it found its old
 * configuration still valid.)
 *
 * A database without a slot has no scheduler that could have missed anything:
 * a scheduler takes its slot before its first snapshot.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "state/news.h"
#include "state/prepared.h"
#include "storage/spin.h"
#include "utils/resowner.h"

#define MAX_NOTED_DATABASES 4
#define MAX_REMEMBERED		64

typedef struct Notes
{
	bool		any;
	bool		committed;		/* to be published as the commit ends */
	bool		many;
	bool		config;
	bool		objects;		/* a table or function changed */
	int			ntypes;
	uint64		types[DBOPT_NOTED_TYPES];
	int			ndatabases;		/* for the launcher */
	Oid			databases[MAX_NOTED_DATABASES];
	uint64		gid;			/* the transaction is about to be prepared */

	/* The type noted last. */
	int32		last_source;
	int			last_length;	/* 0: none */
	char		last_type[MAX_REMEMBERED];
} Notes;

static Notes notes;
static bool callback_registered = false;

static void
forget_notes(void)
{
	notes.any = false;
	notes.committed = false;
	notes.many = false;
	notes.config = false;
	notes.objects = false;
	notes.ntypes = 0;
	notes.ndatabases = 0;
	notes.last_length = 0;
}

static void
add_type(DbOptNews *news, uint64 type)
{
	int			i;

	for (i = 0; i < news->count; i++)
		if (news->types[i] == type)
			return;
	if (news->count < DBOPT_NEWS_SIZE)
		news->types[news->count++] = type;
	else
		news->many = true;
}

/*
 * Adds the notes to the database's news.  False if nobody is there to read
 * them.
 */
static bool
publish_to_scheduler(void)
{
	DbOptDatabase *database;
	bool		running = false;
	int			procno = 0;
	int			i;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
	{
		running = database->scheduler_pid != 0;
		procno = database->scheduler_procno;

		SpinLockAcquire(&database->news_mutex);
		for (i = 0; i < notes.ntypes; i++)
			add_type(&database->news, notes.types[i]);
		database->news.many |= notes.many;
		database->news.config |= notes.config | notes.objects;
		SpinLockRelease(&database->news_mutex);
	}
	LWLockRelease(dbopt_shared->lock);

	if (running)
		dbopt_process_wake(procno);
	return database != NULL;
}

static void
publish_notes(void)
{
	int			i;

	if (notes.ntypes > 0 || notes.many || notes.config || notes.objects)
	{
		bool		known = publish_to_scheduler();

		if (!known && (notes.ntypes > 0 || notes.many))
			dbopt_launcher_news_put(MyDatabaseId);
	}
	for (i = 0; i < notes.ndatabases; i++)
		dbopt_launcher_news_put(notes.databases[i]);
	forget_notes();
}

/*
 * Leaves the notes to whoever commits the transaction.
 */
static void
store_notes(void)
{
	DbOptPrepared prepared = {0};

	prepared.dboid = MyDatabaseId;
	prepared.gid = notes.gid;
	prepared.ntypes = notes.ntypes;
	memcpy(prepared.types, notes.types, notes.ntypes * sizeof(uint64));
	prepared.many = notes.many;
	prepared.config = notes.config || notes.objects;
	prepared.launcher = notes.ndatabases > 0;
	dbopt_prepared_put(&prepared);
}

static void
news_xact_callback(XactEvent event, void *arg)
{
	if (!notes.any)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			notes.committed = true;
			break;
		case XACT_EVENT_PREPARE:
			store_notes();
			forget_notes();
			break;
		case XACT_EVENT_ABORT:
			forget_notes();
			break;
		default:
			break;
	}
}

/*
 * Resource owners other than the transaction's end here, too.
 */
static void
news_release_callback(ResourceReleasePhase phase, bool isCommit,
					  bool isTopLevel, void *arg)
{
	if (notes.committed && isTopLevel && phase == RESOURCE_RELEASE_AFTER_LOCKS)
		publish_notes();
}

/*
 * False: there is no shared memory, and nothing to note.
 */
static bool
begin_note(void)
{
	if (dbopt_shared == NULL)
		return false;
	if (!callback_registered)
	{
		RegisterXactCallback(news_xact_callback, NULL);
		RegisterResourceReleaseCallback(news_release_callback, NULL);
		callback_registered = true;
	}
	notes.any = true;
	return true;
}

/*
 * What an event type of a source is called in shared memory.
 */
uint64
dbopt_news_hash(int32 source_id, const char *type, int length)
{
	return hash_bytes_extended((const unsigned char *) type, length,
							   (uint64) source_id);
}

static bool
noted_last(int32 source_id, const char *type, int length)
{
	return notes.last_length == length && notes.last_source == source_id &&
		length > 0 && memcmp(notes.last_type, type, length) == 0;
}

static void
note_hash(uint64 hash)
{
	int			i;

	for (i = 0; i < notes.ntypes; i++)
		if (notes.types[i] == hash)
			return;
	if (notes.ntypes < DBOPT_NOTED_TYPES)
		notes.types[notes.ntypes++] = hash;
	else
		notes.many = true;
}

/*
 * This transaction writes an event of this type.
 */
void
dbopt_news_note(int32 source_id, const char *type, int length)
{
	if (noted_last(source_id, type, length) || !begin_note())
		return;

	note_hash(dbopt_news_hash(source_id, type, length));
	if (length <= MAX_REMEMBERED)
	{
		memcpy(notes.last_type, type, length);
		notes.last_source = source_id;
		notes.last_length = length;
	}
}

void
dbopt_news_note_many(void)
{
	if (begin_note())
		notes.many = true;
}

/*
 * This transaction changes handlers, sources, policies or the pause.
 */
void
dbopt_news_note_config(void)
{
	if (begin_note())
		notes.config = true;
}

/*
 * This transaction changes or drops tables or functions that may be in use.
 * Where no scheduler is, nobody wants to know.
 */
void
dbopt_news_note_objects(void)
{
	if (begin_note())
		notes.objects = true;
}

/*
 * This transaction may bring or take the extension in this database.
 */
void
dbopt_news_note_launcher(void)
{
	dbopt_news_note_database(MyDatabaseId);
}

void
dbopt_news_note_database(Oid dboid)
{
	int			i;

	if (!begin_note())
		return;
	for (i = 0; i < notes.ndatabases; i++)
		if (notes.databases[i] == dboid)
			return;
	if (notes.ndatabases == MAX_NOTED_DATABASES)
		notes.databases[0] = InvalidOid;	/* look at all */
	else
		notes.databases[notes.ndatabases++] = dboid;
}

/*
 * This transaction is about to be prepared under this name.
 */
void
dbopt_news_note_prepare(const char *gid)
{
	if (begin_note())
		notes.gid = dbopt_prepared_hash(gid);
}

/*
 * A prepared transaction has been committed in this database.  One that the
 * server does not remember may have written anything.
 */
void
dbopt_news_publish_prepared(const char *gid)
{
	DbOptPrepared prepared;

	if (dbopt_shared == NULL)
		return;
	Assert(!notes.any);
	if (dbopt_prepared_take(dbopt_prepared_hash(gid), &prepared))
	{
		notes.ntypes = prepared.ntypes;
		memcpy(notes.types, prepared.types, prepared.ntypes * sizeof(uint64));
		notes.many = prepared.many;
		notes.config = prepared.config;
		if (prepared.launcher)
			notes.databases[notes.ndatabases++] = MyDatabaseId;
		publish_notes();
	}
	else
	{
		notes.many = true;
		notes.config = true;
		(void) publish_to_scheduler();
		forget_notes();
	}
}

/*
 * A prepared transaction has been rolled back.
 */
void
dbopt_news_forget_prepared(const char *gid)
{
	DbOptPrepared prepared;

	if (dbopt_shared != NULL)
		(void) dbopt_prepared_take(dbopt_prepared_hash(gid), &prepared);
}

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
	memcpy(news->types, source->types, source->count * sizeof(uint64));
	source->count = 0;
	source->many = false;
	source->config = false;
	SpinLockRelease(&database->news_mutex);

	if (news->count == 0 && !news->many && !news->config)
		return false;
	pg_atomic_fetch_add_u64(&database->news_taken, 1);
	return true;
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
