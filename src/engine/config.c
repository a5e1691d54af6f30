/*
 * config.c
 *		Sources, handlers and policies as the engine needs them: kept until they
 *		change.
 *
 * Run by every process of dbopt and by backends that call its functions.  A
 * relcache invalidation, which everybody who changes the tables sends, makes
 * the next call read them anew (config_read.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/config_read.h"
#include "engine/extension.h"
#include "utils/inval.h"
#include "utils/memutils.h"

/* The tables that the configuration is read from. */
static const DbOptTable config_tables[] = {
	DBOPT_DATABASE, DBOPT_SOURCE, DBOPT_RETRY_POLICY, DBOPT_RETRYABLE_ERROR,
	DBOPT_HANDLER
};

/*
 * Their OIDs, kept apart from what the catalogue code knows: that has
 * forgotten them by the time our callback runs.
 */
static Oid	watched[lengthof(config_tables)];

static MemoryContext config_context = NULL;
static DbOptConfig *current = NULL;
static bool valid = false;
static uint64 generation = 0;
static bool held = false;		/* old ones stay until dbopt_config_release() */
static List *outdated = NIL;	/* of MemoryContext */

static int64 position_offset;
static bool position_offset_valid = false;
static bool position_foreign;
static bool callback_registered = false;
static bool changing = false;	/* this transaction, which may be undone */
static bool undo_registered = false;

static void
invalidate(void)
{
	valid = false;
	position_offset_valid = false;
	generation++;
}

static void
invalidate_on_change(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(config_tables); i++)
		if (!OidIsValid(relid) || relid == watched[i])
		{
			invalidate();
			return;
		}
}

/*
 * Of what the last command has changed nothing tells when it is undone, though
 * it may have been read since.
 */
static void
forget_undone(XactEvent event, void *arg)
{
	if (changing && event == XACT_EVENT_ABORT)
		invalidate();
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT ||
		event == XACT_EVENT_PREPARE)
		changing = false;
}

static void
forget_undone_part(SubXactEvent event, SubTransactionId mine,
				   SubTransactionId parent, void *arg)
{
	if (changing && event == SUBXACT_EVENT_ABORT_SUB)
		invalidate();
}

/* Makes sure to hear of changes; to be called before reading. */
static void
watch(void)
{
	if (!callback_registered)
		CacheRegisterRelcacheCallback(invalidate_on_change, (Datum) 0);
	callback_registered = true;
	for (int i = 0; i < lengthof(config_tables); i++)
		watched[i] = dbopt_table_oid(config_tables[i]);
}

/* Drops a configuration that has been replaced, or keeps it while held. */
static void
config_retire(MemoryContext context)
{
	MemoryContext previous;

	if (!held)
	{
		MemoryContextDelete(context);
		return;
	}
	previous = MemoryContextSwitchTo(CacheMemoryContext);
	outdated = lappend(outdated, context);
	MemoryContextSwitchTo(previous);
}

void
dbopt_config_hold(void)
{
	held = true;
}

void
dbopt_config_release(void)
{
	ListCell   *cell;

	held = false;
	foreach(cell, outdated)
		MemoryContextDelete((MemoryContext) lfirst(cell));
	list_free(outdated);
	outdated = NIL;
}

/*
 * While a database is being restored, the row of its identity may still come,
 * of which nothing tells: only what this database has made its own is kept.
 */
int64
dbopt_position_offset(void)
{
	DbOptConfig config = {.foreign_identity = true,
		.position_offset = DBOPT_POSITION_ERA
	};
	uint64		before;

	if (position_offset_valid)
		return position_offset;
	watch();
	before = generation;
	dbopt_config_read_database(&config);
	position_offset = config.position_offset;
	position_foreign = config.foreign_identity;
	position_offset_valid = !position_foreign && generation == before;
	return position_offset;
}

bool
dbopt_positions_foreign(void)
{
	(void) dbopt_position_offset();
	return position_foreign;
}

/*
 * Nothing tells of rows that a restore loads, so that their absence is looked
 * at again.
 */
static bool
sources_have_come(void)
{
	return current->sources == NIL && current->newer_version == NULL &&
		dbopt_config_has_sources();
}

static void
load(void)
{
	MemoryContext context,
				previous;
	uint64		before;

	context = AllocSetContextCreate(CurrentMemoryContext, "dbopt config",
									ALLOCSET_SMALL_SIZES);
	previous = MemoryContextSwitchTo(context);
	watch();
	before = generation;
	current = dbopt_config_read();
	MemoryContextSwitchTo(previous);
	MemoryContextSetParent(context, CacheMemoryContext);
	if (config_context != NULL)
		config_retire(config_context);
	config_context = context;

	/* Nothing would tell of the extension's creation. */
	valid = current->installed && generation == before;
}

/* The latest, as far as invalidations tell. */
static const DbOptConfig *
look(void)
{
	/* Hear of changes that have committed by now. */
	AcceptInvalidationMessages();
	if (!valid)
		load();

	/*
	 * It changed meanwhile.  If it had to wait for who created the extension
	 * anew, the rows are younger than its snapshot.
	 */
	if (!valid && current->installed)
		load();
	return current;
}

const DbOptConfig *
dbopt_config_look(void)
{
	const DbOptConfig *config = look();

	if (!valid || !sources_have_come())
		return config;
	invalidate();
	return look();
}

static const DbOptConfig *
of_known_version(const DbOptConfig *config)
{
	if (config->newer_version != NULL)
		dbopt_require_known_version();
	return config;
}

const DbOptConfig *
dbopt_config_get(void)
{
	return of_known_version(dbopt_config_look());
}

const DbOptPolicy *
dbopt_config_policy_get(const char *name)
{
	return dbopt_config_policy(of_known_version(look()), name);
}

uint64
dbopt_config_generation(void)
{
	return generation;
}

void
dbopt_config_changed(void)
{
	if (!undo_registered)
	{
		RegisterXactCallback(forget_undone, NULL);
		RegisterSubXactCallback(forget_undone_part, NULL);
		undo_registered = true;
	}
	changing = true;
	for (int i = 0; i < lengthof(config_tables); i++)
	{
		Oid			relid = dbopt_table_oid(config_tables[i]);

		if (OidIsValid(relid))
			CacheInvalidateRelcacheByRelid(relid);
	}
}
