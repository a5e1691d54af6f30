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
	bool		unknown;		/* what was written is: it may be anything */
	bool		many;
	bool		config;
	bool		objects;		/* a table, function or schema changed */
	bool		tables;			/* for dbopt.auto_index */
	bool		roles;			/* a role changed: for all databases */
	bool		settings;		/* of roles or databases: for all databases */
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
static bool release_registered = false;

static void
forget_notes(void)
{
	notes.any = false;
	notes.committed = false;
	notes.unknown = false;
	notes.many = false;
	notes.config = false;
	notes.objects = false;
	notes.tables = false;
	notes.roles = false;
	notes.settings = false;
	notes.ntypes = 0;
	notes.ndatabases = 0;
	notes.gid = 0;
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

static bool
has_local_news(void)
{
	return notes.ntypes > 0 || notes.many || notes.config || notes.objects ||
		notes.tables;
}

bool
dbopt_news_noted(void)
{
	return notes.any && (notes.ntypes > 0 || notes.many || notes.config);
}

/* Adds the noted types but those that nobody wants; false: there is none. */
static bool
add_types(DbOptDatabase *database)
{
	bool		any = false;

	for (int i = 0; i < notes.ntypes; i++)
	{
		uint64		type = notes.types[i];

		if (database->unwanted[type % DBOPT_UNWANTED_TYPES] == type)
			continue;
		add_type(&database->news, type);
		any = true;
	}
	return any;
}

/*
 * Adds the notes to the database's news; false: the scheduler need not be told.
 */
static bool
add_news(DbOptDatabase *database)
{
	bool		any = notes.roles || notes.settings;

	SpinLockAcquire(&database->news_mutex);
	if (database->dboid == MyDatabaseId)
	{
		any |= add_types(database);
		any |= notes.many || notes.config || notes.objects || notes.tables;
		database->news.many |= notes.many;
		database->news.config |= notes.config;
		database->news.objects |= notes.objects;
		database->news.tables |= notes.tables;
	}
	database->news.objects |= notes.roles;
	database->news.settings |= notes.settings;
	SpinLockRelease(&database->news_mutex);
	return any;
}

/*
 * Tells the schedulers that the notes concern.  False: this database has no
 * slot, so that nobody is there to read what is for it.
 */
static bool
publish_to_schedulers(void)
{
	bool		everywhere = notes.roles || notes.settings;
	int			procnos[DBOPT_MAX_DATABASES];
	int			count = 0;
	DbOptDatabase *own;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	own = dbopt_database_find(MyDatabaseId);
	if (own != NULL && add_news(own) && own->scheduler_pid != 0)
		procnos[count++] = own->scheduler_procno;
	for (int i = 0; everywhere && i < DBOPT_MAX_DATABASES; i++)
	{
		DbOptDatabase *database = dbopt_database_slot(i);

		if (database != own && OidIsValid(database->dboid) &&
			add_news(database) && database->scheduler_pid != 0)
			procnos[count++] = database->scheduler_procno;
	}
	LWLockRelease(dbopt_shared->lock);

	for (int i = 0; i < count; i++)
		dbopt_process_wake(procnos[i]);
	return own != NULL;
}

static void
publish_notes(void)
{
	int			i;

	if (has_local_news() || notes.roles || notes.settings)
	{
		bool		known = publish_to_schedulers();

		if (!known && !notes.unknown && (notes.ntypes > 0 || notes.many))
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
	prepared.xid = GetTopTransactionIdIfAny();
	prepared.ntypes = notes.ntypes;
	memcpy(prepared.types, notes.types, notes.ntypes * sizeof(uint64));
	prepared.many = notes.many;
	prepared.config = notes.config;
	prepared.objects = notes.objects;
	prepared.tables = notes.tables;
	prepared.roles = notes.roles;
	prepared.settings = notes.settings;
	prepared.launcher = notes.ndatabases > 0;
	dbopt_prepared_put(&prepared);
}

static void
news_xact_callback(XactEvent event, void *arg)
{
	if (dbopt_news_is_replicating())
		dbopt_news_note_replicated(event, notes.any);
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
	if (!release_registered)
		RegisterResourceReleaseCallback(news_release_callback, NULL);
	release_registered = true;
	notes.any = true;
	return true;
}

void
dbopt_news_install(void)
{
	RegisterXactCallback(news_xact_callback, NULL);
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
 * This transaction changes or drops tables, functions or schemas that may be
 * in use.  Where no scheduler is, nobody wants to know.
 */
void
dbopt_news_note_objects(void)
{
	if (begin_note())
		notes.objects = true;
}

/*
 * This transaction brings or changes tables, or declarations, whose indexes
 * are to be built by themselves.
 */
void
dbopt_news_note_tables(void)
{
	if (begin_note())
		notes.tables = true;
}

/*
 * This transaction changes or drops roles, which all databases share.
 */
void
dbopt_news_note_roles(void)
{
	if (begin_note())
		notes.roles = true;
}

/*
 * This transaction changes the settings that sessions of a role, or of a
 * database, begin with.
 */
void
dbopt_news_note_settings(void)
{
	if (begin_note())
		notes.settings = true;
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
 * This transaction is about to be prepared under this name.  One that has
 * failed is rolled back instead, and has forgotten its notes already.
 */
void
dbopt_news_note_prepare(const char *gid)
{
	if (!IsAbortedTransactionBlockState() && begin_note())
		notes.gid = dbopt_prepared_hash(gid);
}

/*
 * This transaction does nothing, but tells of one that was prepared.
 */
void
dbopt_news_note_prepared(const DbOptPrepared *prepared)
{
	if (!begin_note())
		return;
	for (int i = 0; i < prepared->ntypes; i++)
		note_hash(prepared->types[i]);
	notes.many |= prepared->many;
	notes.config |= prepared->config;
	notes.objects |= prepared->objects;
	notes.tables |= prepared->tables;
	notes.roles |= prepared->roles;
	notes.settings |= prepared->settings;
	if (prepared->launcher)
		dbopt_news_note_launcher();
}

/*
 * The same of one that the server does not remember, and that may have written
 * anything.
 */
void
dbopt_news_note_unknown(void)
{
	if (!begin_note())
		return;
	notes.unknown = true;
	notes.many = true;
	notes.config = true;
	notes.objects = true;
	notes.roles = true;
	notes.settings = true;
}

/*
 * Says at once what was noted, outside a transaction.
 */
void
dbopt_news_publish(void)
{
	publish_notes();
}
