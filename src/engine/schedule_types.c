/*
 * schedule_types.c
 *		The event types that the scheduler knows, and the tracks of each.
 *
 * Run by the scheduler alone, in its own memory; no lock, no transaction.  A
 * type without tracks is one that no handler wants: kept, up to a number of
 * them, so that its news need no look at the database.
 */
#include "postgres.h"

#include "engine/schedule.h"
#include "utils/hsearch.h"

#define MAX_IGNORED_TYPES 10000

/* An event type, by its hash. */
typedef struct Type
{
	uint64		type;			/* hash key */
	dlist_head	tracks;			/* its cursors; none: nobody wants it */
} Type;

static HTAB *types;
static int	nignored = 0;

void
dbopt_types_init(void)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(Type)};

	types = hash_create("dbopt event types", 64, &control,
						HASH_ELEM | HASH_BLOBS);
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

/*
 * The track is one of its type from now on, until it is removed.
 */
void
dbopt_type_add(DbOptTrack *track)
{
	Type	   *entry = make_type(track->type);

	if (dlist_is_empty(&entry->tracks))
		nignored--;
	dlist_push_tail(&entry->tracks, &track->of_type);
}

void
dbopt_type_remove(DbOptTrack *track)
{
	Type	   *entry = make_type(track->type);

	dlist_delete(&track->of_type);
	if (dlist_is_empty(&entry->tracks))
		nignored++;
}

/* Would its events be run, if there were any? */
static bool
is_served(const DbOptTrack *track)
{
	const DbOptLane *lane = dbopt_lane_find(track->handler_id);

	return lane != NULL && lane->open;
}

/*
 * News of an event type.
 */
DbOptInterest
dbopt_type_want(uint64 type, uint64 news, TimestampTz now)
{
	Type	   *entry = hash_search(types, &type, HASH_FIND, NULL);
	bool		served = false;
	dlist_iter	iter;

	if (entry == NULL)
		return DBOPT_INTEREST_UNKNOWN;
	dlist_foreach(iter, &entry->tracks)
	{
		DbOptTrack *track = dlist_container(DbOptTrack, of_type, iter.cur);

		dbopt_track_want(track, news, now);
		served |= is_served(track);
	}
	return served ? DBOPT_INTEREST_SOME : DBOPT_INTEREST_NONE;
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
