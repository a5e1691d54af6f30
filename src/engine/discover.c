/*
 * discover.c
 *		Which event types there are, and the cursors that they call for.
 *
 * Run by the scheduler, in a transaction that has locked the events table.  It
 * takes time for each event type, whatever the number of handlers and of
 * events.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "engine/catalog.h"
#include "engine/cursor.h"
#include "engine/patterns.h"
#include "miscadmin.h"
#include "state/news.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Where a cursor starts that its handler meets now. */
static void
version_start(const DbOptHandler *handler, int32 cursor_id,
			  DbOptVersion *version)
{
	memset(version, 0, sizeof(*version));
	version->cursor_id = cursor_id;
	version->seq = 1;
	version->last.position = handler->start_position;
	version->last.whole = true;
	version->holes = handler->start_holes;
	version->nholes = handler->nstart_holes;
}

static void
cursor_insert(const DbOptLog *log, const DbOptSource *source,
			  const DbOptHandler *handler, const char *event_type)
{
	Relation	rel = dbopt_table_open(DBOPT_CURSOR, RowExclusiveLock);
	Relation	versions = dbopt_table_open(DBOPT_CURSOR_VERSION,
											RowExclusiveLock);
	int32		cursor_id = nextval_internal(dbopt_cursor_sequence_oid(),
											 false);
	Datum		values[Natts_cursor];
	bool		nulls[Natts_cursor] = {0};
	DbOptVersion version;

	values[Anum_cursor_id - 1] = Int32GetDatum(cursor_id);
	values[Anum_cursor_source_id - 1] = Int32GetDatum(source->source_id);
	values[Anum_cursor_handler_id - 1] =
		Int32GetDatum(source->mark_processed ? 0 : handler->handler_id);
	values[Anum_cursor_event_type - 1] = CStringGetTextDatum(event_type);
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values,
											nulls));
	version_start(handler, cursor_id, &version);
	dbopt_version_insert(versions, log, &version);
	table_close(versions, NoLock);
	table_close(rel, NoLock);
}

/* ---- the cursors that are there ------------------------------------------ */

typedef struct CursorKey
{
	int32		handler_id;
	const char *event_type;
} CursorKey;

static uint32
hash_cursor(const void *key, Size size)
{
	const CursorKey *cursor = key;

	return hash_bytes((const unsigned char *) cursor->event_type,
					  strlen(cursor->event_type)) ^ (uint32) cursor->handler_id;
}

static int
match_cursors(const void *a, const void *b, Size size)
{
	const CursorKey *left = a;
	const CursorKey *right = b;

	if (left->handler_id != right->handler_id)
		return 1;
	return strcmp(left->event_type, right->event_type);
}

/* The cursors of a source, by handler and event type; adds their types. */
static HTAB *
load_existing(const DbOptSource *source, List **types)
{
	HASHCTL		control = {
		.keysize = sizeof(CursorKey),
		.entrysize = sizeof(CursorKey),
		.hash = hash_cursor,
		.match = match_cursors,
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *existing = hash_create("dbopt cursors", 256, &control,
									   HASH_ELEM | HASH_FUNCTION |
									   HASH_COMPARE | HASH_CONTEXT);
	ListCell   *cell;

	foreach(cell, dbopt_cursors_load())
	{
		DbOptCursor *cursor = lfirst(cell);
		CursorKey	key = {cursor->handler_id, cursor->event_type};

		if (cursor->source_id != source->source_id)
			continue;
		(void) hash_search(existing, &key, HASH_ENTER, NULL);
		*types = lappend(*types, cursor->event_type);
	}
	return existing;
}

/* ---- discovery ----------------------------------------------------------- */

/* A discovery that is under way. */
typedef struct Discovery
{
	const DbOptSource *source;
	const DbOptLog *log;
	DbOptPatterns *patterns;
	HTAB	   *existing;
	HTAB	   *unwanted;		/* types, by dbopt_news_hash() */
	int			created;
} Discovery;

static void
provide_cursor(Discovery *discovery, const DbOptHandler *handler,
			   const char *event_type)
{
	bool		shared = discovery->source->mark_processed;
	CursorKey	key = {shared ? 0 : handler->handler_id, event_type};

	if (hash_search(discovery->existing, &key, HASH_FIND, NULL) != NULL)
		return;
	cursor_insert(discovery->log, discovery->source, handler, event_type);
	discovery->created++;
}

/*
 * The cursors that one event type calls for: on a mark_processed source one
 * that all handlers share, else one a handler.
 */
static void
discover_type(Discovery *discovery, const char *event_type)
{
	List	   *handlers = dbopt_patterns_match(discovery->patterns,
												event_type);
	ListCell   *cell;

	if (handlers == NIL)
	{
		uint64		type = dbopt_news_hash(discovery->source->source_id,
										   event_type, strlen(event_type));

		(void) hash_search(discovery->unwanted, &type, HASH_ENTER, NULL);
	}
	foreach(cell, handlers)
	{
		provide_cursor(discovery, lfirst(cell), event_type);
		if (discovery->source->mark_processed)
			break;
	}
}

static int
compare_types(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/*
 * The types in the log, and those that have a cursor though no event of theirs
 * is there: news of them lead to no discovery, so all their handlers need
 * cursors before.  Each once or more, in order.
 */
static List *
types_to_serve(Discovery *discovery, DbOptLog *log)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	List	   *types = dbopt_log_event_types(log, snapshot);

	UnregisterSnapshot(snapshot);
	discovery->existing = load_existing(discovery->source, &types);
	list_sort(types, compare_types);
	return types;
}

bool
dbopt_cursors_discover(const DbOptConfig *config, const DbOptSource *source,
					   HTAB *unwanted, int *created)
{
	Discovery	discovery = {.source = source,.unwanted = unwanted};
	char	   *problem;
	DbOptLog   *log = dbopt_log_try_open(source->relid, &problem);
	const char *last = NULL;
	ListCell   *cell;

	if (log == NULL)
		return false;
	discovery.log = log;
	discovery.patterns = dbopt_patterns_make(config, source);
	foreach(cell, types_to_serve(&discovery, log))
	{
		const char *type = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (last == NULL || strcmp(type, last) != 0)
			discover_type(&discovery, type);
		last = type;
	}
	dbopt_log_close(log);
	*created += discovery.created;
	return true;
}
