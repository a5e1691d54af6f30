/*
 * schedule.c
 *		Lanes and tracks: making, finding and dropping them.
 *
 * Run by the scheduler alone, in its own memory; no lock, no transaction.
 * Whoever keeps a lane's or track's id looks it up again: a refresh may have
 * dropped it.
 */
#include "postgres.h"

#include "engine/schedule.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define MAX_IGNORED_TYPES 10000

/* An event type, by its hash, and the cursors for it: none if no handler
 * wants it. */
typedef struct Type
{
	uint64		type;			/* hash key */
	dlist_head	tracks;
} Type;

static HTAB *lanes;
static HTAB *tracks;
static HTAB *types;
static int	nignored = 0;
static bool doubts = false;		/* some track has check_chunks */
static HASH_SEQ_STATUS lane_scan;
static HASH_SEQ_STATUS track_scan;

static HTAB *
make_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		control = {.keysize = keysize,.entrysize = entrysize};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS);
}

void
dbopt_schedule_init(void)
{
	lanes = make_table("dbopt lanes", sizeof(int32), sizeof(DbOptLane));
	tracks = make_table("dbopt tracks", sizeof(int32), sizeof(DbOptTrack));
	types = make_table("dbopt event types", sizeof(uint64), sizeof(Type));
}

DbOptLane *
dbopt_lane_find(int32 handler_id)
{
	return hash_search(lanes, &handler_id, HASH_FIND, NULL);
}

/*
 * All lanes in turn, NULL after the last; the present one may be dropped.  To
 * be called until it gives NULL.
 */
DbOptLane *
dbopt_lane_next(bool first)
{
	if (first)
		hash_seq_init(&lane_scan, lanes);
	return hash_seq_search(&lane_scan);
}

DbOptLane *
dbopt_lane_make(int32 handler_id)
{
	bool		found;
	DbOptLane  *lane;

	lane = hash_search(lanes, &handler_id, HASH_ENTER, &found);
	if (!found)
	{
		memset(lane, 0, sizeof(*lane));
		lane->handler_id = handler_id;
		lane->slot = -1;
		lane->retry_at = PG_INT64_MAX;
		dlist_init(&lane->tracks);
	}
	return lane;
}

/*
 * The tracks in it are served by nobody.
 */
void
dbopt_lane_drop(DbOptLane *lane)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lane->tracks)
		dbopt_track_serve(dlist_container(DbOptTrack, in_lane, iter.cur), 0);
	hash_search(lanes, &lane->handler_id, HASH_REMOVE, NULL);
}

DbOptTrack *
dbopt_track_find(int32 cursor_id)
{
	return hash_search(tracks, &cursor_id, HASH_FIND, NULL);
}

DbOptTrack *
dbopt_track_next(bool first)
{
	if (first)
		hash_seq_init(&track_scan, tracks);
	return hash_seq_search(&track_scan);
}

static Type *
make_type(uint64 type)
{
	bool		found;
	Type	   *entry;

	entry = hash_search(types, &type, HASH_ENTER, &found);
	if (!found)
	{
		dlist_init(&entry->tracks);
		nignored++;
	}
	return entry;
}

DbOptTrack *
dbopt_track_make(int32 cursor_id, uint64 type)
{
	bool		found;
	DbOptTrack *track;
	Type	   *entry;

	track = hash_search(tracks, &cursor_id, HASH_ENTER, &found);
	if (found)
		return track;

	memset(track, 0, sizeof(*track));
	track->cursor_id = cursor_id;
	track->type = type;
	dlist_init(&track->chunks);
	entry = make_type(type);
	if (dlist_is_empty(&entry->tracks))
		nignored--;
	dlist_push_tail(&entry->tracks, &track->of_type);
	return track;
}

static void
unqueue(DbOptTrack *track)
{
	if (track->queued)
		dlist_delete(&track->in_lane);
	track->queued = false;
}

static void
queue(DbOptTrack *track)
{
	DbOptLane  *lane;

	if (track->queued ||
		(!track->wanted && dlist_is_empty(&track->chunks)))
		return;
	lane = dbopt_lane_find(track->handler_id);
	if (lane == NULL)
		return;
	dlist_push_tail(&lane->tracks, &track->in_lane);
	track->queued = true;
}

void
dbopt_track_drop(DbOptTrack *track)
{
	Type	   *entry = make_type(track->type);

	unqueue(track);
	while (!dlist_is_empty(&track->chunks))
		pfree(dlist_container(DbOptLeftover, node,
							  dlist_pop_head_node(&track->chunks)));
	dlist_delete(&track->of_type);
	if (dlist_is_empty(&entry->tracks))
		nignored++;
	hash_search(tracks, &track->cursor_id, HASH_REMOVE, NULL);
}

/*
 * From now on the track is this handler's, 0 for nobody's.
 */
void
dbopt_track_serve(DbOptTrack *track, int32 handler_id)
{
	if (track->handler_id != handler_id)
		unqueue(track);
	track->handler_id = handler_id;
	queue(track);
}

/*
 * There may be events to hand out; "news" is the number of the news that said
 * so.  The place in the queue counts from the first time.
 */
void
dbopt_track_want(DbOptTrack *track, uint64 news, TimestampTz now)
{
	track->last_news = news;
	if (track->wanted)
		return;
	track->wanted = true;
	track->since_news = news;
	if (dlist_is_empty(&track->chunks))
		track->since = now;
	queue(track);
}

/*
 * A chunk whose session has gone.  One that is known already stays once.
 */
void
dbopt_track_add_chunk(DbOptTrack *track, int64 seq, TimestampTz now)
{
	DbOptLeftover *leftover;
	dlist_iter	iter;

	dlist_foreach(iter, &track->chunks)
	{
		if (dlist_container(DbOptLeftover, node, iter.cur)->seq == seq)
			return;
	}
	leftover = MemoryContextAlloc(TopMemoryContext, sizeof(*leftover));
	leftover->seq = seq;
	if (!track->wanted && dlist_is_empty(&track->chunks))
		track->since = now;
	dlist_push_tail(&track->chunks, &leftover->node);
	queue(track);
}

/*
 * It may have left chunks that are not known here.
 */
void
dbopt_track_doubt(DbOptTrack *track)
{
	track->check_chunks = true;
	doubts = true;
}

/*
 * Is there a doubtful track that could be served now?
 */
bool
dbopt_schedule_checks_due(TimestampTz now)
{
	DbOptTrack *track;
	bool		due = false;

	if (!doubts)
		return false;
	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
		due |= track->check_chunks && track->not_before <= now;
	return due;
}

/*
 * All chunks have been read.
 */
void
dbopt_tracks_trust(void)
{
	DbOptTrack *track;

	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
		track->check_chunks = false;
	doubts = false;
}

/*
 * News of an event type.  False: it is not known whether a handler wants it.
 */
bool
dbopt_type_want(uint64 type, uint64 news, TimestampTz now)
{
	Type	   *entry = hash_search(types, &type, HASH_FIND, NULL);
	dlist_iter	iter;

	if (entry == NULL)
		return false;
	dlist_foreach(iter, &entry->tracks)
		dbopt_track_want(dlist_container(DbOptTrack, of_type, iter.cur),
						 news, now);
	return true;
}

/*
 * Forgets which event types nobody wants: handlers have changed.
 */
void
dbopt_types_forget_ignored(void)
{
	HASH_SEQ_STATUS scan;
	Type	   *entry;

	if (nignored == 0)
		return;
	hash_seq_init(&scan, types);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (dlist_is_empty(&entry->tracks))
			hash_search(types, &entry->type, HASH_REMOVE, NULL);
	nignored = 0;
}

/*
 * Unless it has cursors by now, no handler wants this event type.
 */
void
dbopt_type_ignore(uint64 type)
{
	if (nignored >= MAX_IGNORED_TYPES)
		dbopt_types_forget_ignored();
	make_type(type);
}
