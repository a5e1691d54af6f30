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

static HTAB *lanes;
static HTAB *tracks;
static pairingheap put_off;		/* tracks, the next to be due on top */
static bool doubts = false;		/* some track has check_chunks */
static HASH_SEQ_STATUS lane_scan;
static HASH_SEQ_STATUS track_scan;

static HTAB *
make_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		control = {.keysize = keysize,.entrysize = entrysize};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS);
}

static DbOptTrack *
track_of(pairingheap_node *node)
{
	return pairingheap_container(DbOptTrack, in_place, node);
}

/*
 * What is larger comes first: who has waited longer.
 */
static int
compare_waiting(const pairingheap_node *a, const pairingheap_node *b,
				void *arg)
{
	const DbOptTrack *left = pairingheap_const_container(DbOptTrack, in_place,
														 a);
	const DbOptTrack *right = pairingheap_const_container(DbOptTrack,
														  in_place, b);

	if (left->since != right->since)
		return left->since < right->since ? 1 : -1;
	return right->cursor_id - left->cursor_id;
}

static int
compare_put_off(const pairingheap_node *a, const pairingheap_node *b,
				void *arg)
{
	const DbOptTrack *left = pairingheap_const_container(DbOptTrack, in_place,
														 a);
	const DbOptTrack *right = pairingheap_const_container(DbOptTrack,
														  in_place, b);

	if (left->not_before != right->not_before)
		return left->not_before < right->not_before ? 1 : -1;
	return 0;
}

void
dbopt_schedule_init(void)
{
	put_off.ph_compare = compare_put_off;
	lanes = make_table("dbopt lanes", sizeof(int32), sizeof(DbOptLane));
	tracks = make_table("dbopt tracks", sizeof(int32), sizeof(DbOptTrack));
	dbopt_types_init();
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

bool
dbopt_lanes_exist(void)
{
	return hash_get_num_entries(lanes) > 0;
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
		lane->look_behind_at = PG_INT64_MAX;
		lane->ready.ph_compare = compare_waiting;
	}
	return lane;
}

/*
 * The tracks in it are served by nobody.
 */
void
dbopt_lane_drop(DbOptLane *lane)
{
	DbOptTrack *track;

	while ((track = dbopt_lane_first(lane)) != NULL)
		dbopt_track_serve(track, 0);
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

DbOptTrack *
dbopt_track_make(int32 cursor_id, uint64 type)
{
	bool		found;
	DbOptTrack *track;

	track = hash_search(tracks, &cursor_id, HASH_ENTER, &found);
	if (found)
		return track;

	memset(track, 0, sizeof(*track));
	track->cursor_id = cursor_id;
	track->type = type;
	dlist_init(&track->chunks);
	dbopt_type_add(track);
	return track;
}

/*
 * Takes the track out of where it waits; to be called before anything changes
 * that its place there depends on.
 */
static void
lift(DbOptTrack *track)
{
	DbOptLane  *lane = dbopt_lane_find(track->handler_id);

	if (track->place == DBOPT_TRACK_READY)
	{
		pairingheap_remove(&lane->ready, &track->in_place);
		lane->nready--;
	}
	else if (track->place == DBOPT_TRACK_PUT_OFF)
		pairingheap_remove(&put_off, &track->in_place);
	track->place = DBOPT_TRACK_RESTING;
}

/*
 * Has it wait where it should.  A track that sessions are at work on is theirs
 * but for chunks left over: dbopt_schedule_collect() sees when they need help.
 */
static void
settle(DbOptTrack *track)
{
	DbOptLane  *lane = dbopt_lane_find(track->handler_id);

	if (track->place != DBOPT_TRACK_RESTING || lane == NULL)
		return;
	if (dlist_is_empty(&track->chunks) &&
		(!track->wanted || track->running > 0))
		return;
	if (track->not_before != 0)
	{
		track->place = DBOPT_TRACK_PUT_OFF;
		pairingheap_add(&put_off, &track->in_place);
		return;
	}
	track->place = DBOPT_TRACK_READY;
	pairingheap_add(&lane->ready, &track->in_place);
	lane->nready++;
}

/*
 * The track of this lane that has waited longest; NULL: none.
 */
DbOptTrack *
dbopt_lane_first(const DbOptLane *lane)
{
	if (pairingheap_is_empty(&lane->ready))
		return NULL;
	return track_of(pairingheap_first(unconstify(pairingheap *, &lane->ready)));
}

/*
 * Takes it out, to be put back before anything else happens to it.
 */
DbOptTrack *
dbopt_lane_take(DbOptLane *lane)
{
	return track_of(pairingheap_remove_first(&lane->ready));
}

void
dbopt_lane_put_back(DbOptLane *lane, DbOptTrack *track)
{
	pairingheap_add(&lane->ready, &track->in_place);
}

/*
 * Lets those wait in their lanes whose time has come, and says when there will
 * be more.
 */
TimestampTz
dbopt_tracks_put_off_until(TimestampTz now)
{
	while (!pairingheap_is_empty(&put_off))
	{
		DbOptTrack *track = track_of(pairingheap_first(&put_off));

		if (track->not_before > now)
			return track->not_before;
		dbopt_track_put_off(track, 0);
	}
	return PG_INT64_MAX;
}

/*
 * Nobody is to be sent there before that time; 0: at any time.
 */
void
dbopt_track_put_off(DbOptTrack *track, TimestampTz until)
{
	lift(track);
	track->not_before = until;
	settle(track);
}

/*
 * It waits from now on: all but the last news have been seen to.
 */
void
dbopt_track_rejoin(DbOptTrack *track, TimestampTz now)
{
	lift(track);
	track->since_news = track->last_news;
	track->since = now;
	settle(track);
}

void
dbopt_track_set_running(DbOptTrack *track, int running)
{
	lift(track);
	track->running = running;
	settle(track);
}

void
dbopt_track_drop(DbOptTrack *track)
{
	lift(track);
	while (!dlist_is_empty(&track->chunks))
		pfree(dlist_container(DbOptLeftover, node,
							  dlist_pop_head_node(&track->chunks)));
	dbopt_type_remove(track);
	hash_search(tracks, &track->cursor_id, HASH_REMOVE, NULL);
}

/*
 * From now on the track is this handler's, 0 for nobody's.
 */
void
dbopt_track_serve(DbOptTrack *track, int32 handler_id)
{
	if (track->handler_id != handler_id)
		lift(track);
	track->handler_id = handler_id;
	settle(track);
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
	lift(track);
	track->wanted = true;
	track->since_news = news;
	if (dlist_is_empty(&track->chunks))
		track->since = now;
	settle(track);
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
	lift(track);
	if (!track->wanted && dlist_is_empty(&track->chunks))
		track->since = now;
	dlist_push_tail(&track->chunks, &leftover->node);
	settle(track);
}

/*
 * A session has been sent to this chunk.
 */
void
dbopt_track_remove_chunk(DbOptTrack *track, int64 seq)
{
	dlist_mutable_iter iter;

	lift(track);
	dlist_foreach_modify(iter, &track->chunks)
	{
		DbOptLeftover *leftover = dlist_container(DbOptLeftover, node,
												  iter.cur);

		if (leftover->seq == seq)
		{
			dlist_delete(iter.cur);
			pfree(leftover);
			break;
		}
	}
	settle(track);
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
 * Every cursor is to be looked at anew: a handler that was paused or broken may
 * have turned away what it is now to run, or a session has gone of whose work
 * nothing is known.
 */
void
dbopt_tracks_doubt(uint64 news, TimestampTz now)
{
	DbOptTrack *track;

	for (track = dbopt_track_next(true); track != NULL;
		 track = dbopt_track_next(false))
	{
		dbopt_track_doubt(track);
		dbopt_track_want(track, news, now);
	}
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
