/*
 * schedule_load.c
 *		Brings lanes and tracks in line with the database.
 *
 * Run by the scheduler alone, in a transaction, when it starts and when news
 * say that handlers or event types have changed.  What is there already keeps
 * its place in the queue and its counts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "engine/crew.h"
#include "engine/cursor.h"
#include "engine/index_own.h"
#include "engine/index_schedule.h"
#include "engine/patterns.h"
#include "engine/progress.h"
#include "engine/schedule.h"
#include "engine/source_state.h"
#include "engine/watch.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/news.h"

static uint64 loaded_generation;	/* of the configuration */
static bool loaded = false;
static bool states_current = false; /* of sources and handlers */

/* ---- lanes --------------------------------------------------------------- */

static void
load_lane(const DbOptConfig *config, const DbOptHandler *handler)
{
	DbOptLane  *lane = dbopt_lane_make(handler->handler_id);

	lane->seen = true;
	lane->source_id = handler->source == NULL ? 0 :
		handler->source->source_id;
	lane->event_type = handler->event_type;
	lane->role = handler->role;
	lane->priority = Min(handler->priority, DBOPT_MAX_PRIORITY);
	lane->max_concurrency = handler->max_concurrency;
	lane->usable = handler->usable;
	lane->open = handler->usable && !handler->paused && !config->paused;
}

/* False: there is no slot for it. */
static bool
attach_lane(const DbOptConfig *config, const DbOptHandler *handler)
{
	DbOptLane  *lane = dbopt_lane_find(handler->handler_id);
	TimestampTz retry_at;

	lane->slot = dbopt_handler_attach(MyDatabaseId, config->extension,
									  handler->handler_id, handler->name);

	retry_at = dbopt_retry_first_due(handler->handler_id);
	if (retry_at != DBOPT_NEVER)
		dbopt_lane_set_retry(lane, retry_at);
	return lane->slot >= 0;
}

/*
 * Once the slots of handlers that have gone are free.  The circuit breaker for
 * callers comes first.
 */
static void
attach_lanes(const DbOptConfig *config)
{
	ListCell   *cell;
	bool		all;

	dbopt_handlers_want(MyDatabaseId, true);
	all = dbopt_handler_attach(MyDatabaseId, config->extension, 0,
							   "database") >= 0;
	foreach(cell, config->handlers)
		all &= attach_lane(config, lfirst(cell));
	if (all)
		dbopt_handlers_want(MyDatabaseId, false);
}

static void
mark_roles(void)
{
	DbOptCrewRole *role;
	DbOptLane  *lane;

	for (role = dbopt_crew_next_role(true); role != NULL;
		 role = dbopt_crew_next_role(false))
		role->needed = false;
	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
	{
		if (lane->usable)
			dbopt_crew_role(lane->role)->needed = true;
	}
}

/*
 * Gives back the slots of handlers that are no longer registered, also of
 * those that went while no scheduler was there.  A session that is still at
 * work for one would count in the slot's next handler: that slot is given back
 * when the session is done.
 */
static void
release_slots(void)
{
	int			number;

	for (number = 0; number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);
		Oid			dboid;
		int32		handler_id;

		LWLockAcquire(dbopt_shared->lock, LW_SHARED);
		dboid = state->dboid;
		handler_id = state->handler_id;
		LWLockRelease(dbopt_shared->lock);

		if (dboid == MyDatabaseId && handler_id != 0 &&
			dbopt_lane_find(handler_id) == NULL &&
			!dbopt_crew_works_for(handler_id))
			dbopt_handler_release(dboid, handler_id);
	}
}

static void
load_lanes(const DbOptConfig *config)
{
	DbOptLane  *lane;
	ListCell   *cell;

	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
		lane->seen = false;
	foreach(cell, config->handlers)
		load_lane(config, lfirst(cell));
	for (lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
	{
		if (!lane->seen)
			dbopt_lane_drop(lane);
	}
	release_slots();
	attach_lanes(config);
	mark_roles();
}

/* ---- tracks -------------------------------------------------------------- */

/* The patterns of the source whose cursors are being looked at. */
typedef struct Serving
{
	const DbOptConfig *config;
	DbOptSource *source;		/* NULL: none yet */
	DbOptPatterns *patterns;
} Serving;

/*
 * Who is to run this cursor's events: 0 for nobody.  The same as
 * dbopt_cursor_handler(), for many.
 */
static int32
serving_handler(Serving *serving, const DbOptCursor *cursor)
{
	DbOptSource *source = dbopt_config_source(serving->config,
											  cursor->source_id);
	DbOptLane  *lane = dbopt_lane_find(cursor->handler_id);
	List	   *handlers;

	if (cursor->handler_id != 0)
		return lane != NULL && dbopt_pattern_match(lane->event_type,
												   cursor->event_type) >= 0 ?
			cursor->handler_id : 0;
	if (source == NULL)
		return 0;
	if (serving->source != source)
		serving->patterns = dbopt_patterns_make(serving->config, source);
	serving->source = source;
	handlers = dbopt_patterns_match(serving->patterns, cursor->event_type);
	return handlers == NIL ? 0 :
		((DbOptHandler *) linitial(handlers))->handler_id;
}

static void
load_track(Serving *serving, const DbOptCursor *cursor, uint64 news,
		   TimestampTz now)
{
	DbOptTrack *track = dbopt_track_find(cursor->cursor_id);

	if (track == NULL)
	{
		track = dbopt_track_make(cursor->cursor_id,
								 dbopt_news_hash(cursor->source_id,
												 cursor->event_type,
												 strlen(cursor->event_type)));
		dbopt_track_want(track, news, now);
	}
	track->seen = true;
	dbopt_track_serve(track, serving_handler(serving, cursor));
}

static void
load_tracks(const DbOptConfig *config, uint64 news, TimestampTz now)
{
	Serving		serving = {.config = config};
	DbOptTrack *track;
	ListCell   *cell;

	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
		track->seen = false;
	foreach(cell, dbopt_cursors_load())
		load_track(&serving, lfirst(cell), news, now);
	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
	{
		if (!track->seen)
			dbopt_track_drop(track);
	}
}

/* ---- chunks -------------------------------------------------------------- */

/*
 * Does a session run this chunk, sent there for it alone?
 */
static bool
in_work(const DbOptChunkId *chunk)
{
	int			i;

	for (i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state == DBOPT_SESSION_BUSY &&
			member->job.kind == DBOPT_JOB_CHUNK &&
			member->job.cursor_id == chunk->cursor_id &&
			member->job.seq == chunk->seq)
			return true;
	}
	return false;
}

/*
 * Finds the chunks of the cursors that may have left some.  One that a session
 * has in its hands is among them; whoever is sent there finds it locked.
 */
static void
load_chunks(TimestampTz now)
{
	DbOptTrack *track;
	ListCell   *cell;

	foreach(cell, dbopt_chunks_load())
	{
		DbOptChunkId *chunk = lfirst(cell);

		track = dbopt_track_find(chunk->cursor_id);
		if (track != NULL && track->check_chunks && !in_work(chunk) &&
			chunk->suspicion == 0)
			dbopt_track_add_chunk(track, chunk->seq, now);
	}
	dbopt_tracks_trust();
}

/* ---- all of it ----------------------------------------------------------- */

static HTAB *
make_type_set(void)
{
	HASHCTL		control = {
		.keysize = sizeof(uint64),
		.entrysize = sizeof(uint64),
		.hcxt = CurrentMemoryContext
	};

	return hash_create("dbopt unwanted types", 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Leaves out a table that is locked rather than keep all the others waiting,
 * and one whose log has gone without its state having been looked at yet.
 */
static void
discover_cursors(const DbOptConfig *config, DbOptRefresh *what)
{
	ListCell   *cell;

	what->unwanted = make_type_set();
	foreach(cell, config->sources)
	{
		DbOptSource *source = lfirst(cell);

		if (!source->usable)
			continue;
		if (!dbopt_log_try_lock(source->relid, AccessShareLock) ||
			!dbopt_cursors_discover(config, source, what->unwanted,
									&what->created))
			what->passed_over = true;
	}
	what->incomplete = what->passed_over;
	CommandCounterIncrement();	/* so that load_tracks() sees them */
}

/*
 * Sees to it that the states and names of sources and handlers are what they
 * should be; to be called when the configuration or some object has changed.
 * What it writes makes news; "config" may be outdated afterwards.  False: not
 * all could be looked at.
 */
static bool
keep_states(const DbOptConfig *config, bool changed)
{
	if (changed || dbopt_watch_disturbed())
		states_current = false;
	if (states_current)
		return true;
	dbopt_watch_begin(config);
	states_current = dbopt_source_try_refresh_states();
	return states_current;
}

/* Says once why nothing runs in a restored or copied database. */
static void
report_foreign(const DbOptConfig *config)
{
	static bool told = false;

	if (!told && config->foreign_identity)
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dbopt does not run in database \"%s\": it was restored or copied from another one",
						get_database_name(MyDatabaseId)),
				 errhint("SELECT dbopt_resume() makes what has come with it its own.")));
	told = config->foreign_identity;
}

bool
dbopt_schedule_refresh(DbOptRefresh *what, uint64 news, TimestampTz now)
{
	const DbOptConfig *config = dbopt_config_look();
	bool		changed = !loaded ||
	loaded_generation != dbopt_config_generation();

	if (!config->installed || config->newer_version != NULL)
		return false;
	report_foreign(config);
	if (what->objects)
		dbopt_chunks_floors_forget();	/* the end of a restore is among them */
	loaded_generation = dbopt_config_generation();
	loaded = true;
	if (what->discover)
		discover_cursors(config, what);
	if (what->discover || what->lanes || changed)
	{
		load_lanes(config);
		load_tracks(config, news, now);
		dbopt_types_forget_ignored();	/* also of dropped tracks */
		dbopt_builds_load(config, now);
		dbopt_schedule_recount();
	}
	if (changed)
		dbopt_tracks_doubt(news, now);
	if (what->chunks || changed)
		load_chunks(now);
	if (what->indexes || changed)
		dbopt_index_schedule_load(now);
	if ((what->objects || what->indexes || changed) &&
		!config->foreign_identity)
		dbopt_index_own_refresh();
	if (what->objects || changed || !states_current)
		what->incomplete |= !keep_states(config, changed);
	return true;
}
