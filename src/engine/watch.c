/*
 * watch.c
 *		Has anything changed that an attached table or a handler stands on?
 *
 * Run by the scheduler alone, in its own memory.  The news say that somebody
 * has changed some table, function, schema or role (dbopt.c notes it); whether
 * it is one that matters here is told by the invalidations that everybody gets
 * who has cached it.  They come in with the next transaction, and cost nothing
 * where nothing was changed.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "engine/watch.h"
#include "miscadmin.h"
#include "storage/lockdefs.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define RELATIONS	(-1)

/* A relation by its OID, or an entry of a system cache by its hash value. */
typedef struct Watched
{
	int			cache;			/* RELATIONS, or of a system cache */
	uint32		id;
} Watched;

static HTAB *watched = NULL;
static bool disturbed = true;

static void
watch(int cache, uint32 id)
{
	Watched		key = {cache, id};

	(void) hash_search(watched, &key, HASH_ENTER, NULL);
}

static void
watch_object(int cache, Oid object)
{
	watch(cache, GetSysCacheHashValue1(cache, ObjectIdGetDatum(object)));
}

static bool
is_watched(int cache, uint32 id)
{
	Watched		key = {cache, id};

	return hash_search(watched, &key, HASH_FIND, NULL) != NULL;
}

static void
relation_changed(Datum arg, Oid relid)
{
	if (!disturbed && (!OidIsValid(relid) || is_watched(RELATIONS, relid)))
		disturbed = true;
}

static void
object_changed(Datum arg, int cache, uint32 hash)
{
	if (!disturbed && (hash == 0 || is_watched(cache, hash)))
		disturbed = true;
}

/* Any role may have its right to connect from any other. */
static void
membership_changed(Datum arg, int cache, uint32 hash)
{
	disturbed = true;
}

/* Forgets what was watched. */
static void
start_anew(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Watched),
		.entrysize = sizeof(Watched)
	};

	disturbed = true;			/* the callbacks do not look meanwhile */
	if (watched == NULL)
	{
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, object_changed,
									  (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, object_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(DATABASEOID, object_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, membership_changed,
									  (Datum) 0);
	}
	else
		hash_destroy(watched);
	watched = hash_create("dbopt watched objects", 64, &control,
						  HASH_ELEM | HASH_BLOBS);
}

/* A partition's indexes and triggers count as its root's. */
static void
watch_source(const DbOptSource *source)
{
	ListCell   *cell;

	if (get_rel_name(source->relid) == NULL)
		return;					/* dropped, and never to come back */
	foreach(cell, find_all_inheritors(source->relid, NoLock, NULL))
		watch(RELATIONS, lfirst_oid(cell));
	watch_object(NAMESPACEOID, get_rel_namespace(source->relid));
}

static void
watch_handler(const DbOptHandler *handler)
{
	watch_object(PROCOID, handler->function);
	watch_object(NAMESPACEOID, get_func_namespace(handler->function));
	watch_object(AUTHOID, handler->role);
}

void
dbopt_watch_begin(const DbOptConfig *config)
{
	ListCell   *cell;

	start_anew();
	watch_object(DATABASEOID, MyDatabaseId);
	foreach(cell, config->sources)
		watch_source(lfirst(cell));
	foreach(cell, config->handlers)
		watch_handler(lfirst(cell));
	disturbed = false;
}

bool
dbopt_watch_disturbed(void)
{
	AcceptInvalidationMessages();
	return disturbed;
}
