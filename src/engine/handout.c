/*
 * handout.c
 *		Handing out: the one short transaction that gives a session the next
 *		part of the log.
 *
 * Run by pool sessions.  In exactly this order: lock the events table (ACCESS
 * SHARE, with its partitions); lock the cursor; take a new snapshot; read the
 * cursor and the log with it.  A snapshot from before one of these locks would
 * lose events: it does not see what committed while the lock was waited for,
 * or what a rewrite of the table has moved.
 *
 * Holes come first, those whose transactions have ended, in the order of
 * (position, key); otherwise the next events behind the cursor, whose
 * transactions in progress become holes.  When there is nothing, nothing is
 * written, and no transaction id is used.
 */
#include "postgres.h"

#include "engine/catalog.h"
#include "engine/handout.h"
#include "engine/position.h"
#include "utils/snapmgr.h"

/* Up to this size, chunks have exactly as many events as they say. */
#define EXACT_EVENTS	16

/*
 * Where there is nothing but so many processed events, the cursor moves on, so
 * as not to read them again each time.
 */
#define MANY_PASSED_OVER	1000

typedef struct Handout
{
	DbOptLog   *log;
	const char *event_type;
	Snapshot	snapshot;
	DbOptHorizon horizon;
	DbOptVersion now;			/* the cursor as it is */
	DbOptVersion next;			/* and as it will be */
	int			wanted;
	int64		passed_over;	/* of what has been counted last */
	DbOptChunk *chunk;
} Handout;

/* A copy of a place that outlives the scan it comes from. */
static DbOptPlace
event_place(const DbOptLog *log, const DbOptLogEvent *event)
{
	DbOptPlace	place = {event->position, false, (Datum) 0};

	place.key = dbopt_log_key_copy(log, event->key);
	return place;
}

/*
 * Counts events between two places, at most "limit".  When the limit is
 * reached, *last is the last one counted.
 *
 * A large chunk only needs an end about so many events away: it is counted by
 * the entries of the index, also those of rolled back events and of rows'
 * older versions, without a look at the rows, which the run reads again.
 */
static int
count_events(Handout *handout, const DbOptPlace *from, const DbOptPlace *to,
			 int limit, DbOptPlace *last)
{
	DbOptLogScan *scan = dbopt_log_scan_begin(handout->log, handout->snapshot,
											  handout->event_type, from, to,
											  handout->wanted > EXACT_EVENTS ?
											  DBOPT_LOG_ENTRIES :
											  DBOPT_LOG_KEYS);
	const DbOptHorizon *horizon = &handout->horizon;
	DbOptLogEvent event;
	int			count = 0;

	while (count < limit && dbopt_log_scan_next(scan, &event))
		if (!dbopt_position_in(event.position, horizon->running,
							   horizon->nrunning) && ++count == limit)
			*last = event_place(handout->log, &event);
	handout->passed_over = dbopt_log_scan_passed_over(scan);
	dbopt_log_scan_end(scan);
	return count;
}

static void
add_position(DbOptChunk *chunk, int64 position)
{
	if (chunk->positions == NULL)
		chunk->positions = palloc(sizeof(int64));
	else
		chunk->positions = repalloc(chunk->positions,
									sizeof(int64) * (chunk->npositions + 1));
	chunk->positions[chunk->npositions++] = position;
}

/*
 * Takes from one hole that has ended.  Returns true when it is used up; else
 * the chunk is full and "next" knows how far it got.
 */
static bool
take_hole(Handout *handout, int64 position)
{
	DbOptChunk *chunk = handout->chunk;
	const DbOptVersion *now = &handout->now;
	DbOptPlace	from = {position - 1, true, (Datum) 0};
	DbOptPlace	to = {position, true, (Datum) 0};
	int			room = handout->wanted - chunk->events;
	int			count;

	if (now->has_partial && now->partial.position == position)
		from = now->partial;
	count = count_events(handout, &from, &to, room, &to);
	if (count == 0)
		return true;
	if (chunk->npositions == 0)
		chunk->from = from;
	add_position(chunk, position);
	chunk->to = to;
	chunk->events += count;
	if (count < room)
		return true;
	handout->next.has_partial = true;
	handout->next.partial = to;
	return false;
}

/* May a hole be handed out: has its transaction ended? */
static bool
hole_has_ended(const Handout *handout, int64 hole)
{
	return hole < handout->horizon.limit &&
		!dbopt_position_in(hole, handout->horizon.running,
						   handout->horizon.nrunning);
}

/*
 * Takes from the holes whose transactions have ended; "next" keeps the rest.
 * The one that is handed out in part already gets a chunk alone, so that the
 * positions of a chunk ascend.
 */
static void
take_holes(Handout *handout)
{
	const DbOptVersion *now = &handout->now;
	DbOptVersion *next = &handout->next;
	int64		used_up = -1;
	bool		full = false;

	next->holes = palloc(sizeof(int64) * (now->nholes + 1));
	next->nholes = 0;
	next->has_partial = false;
	if (now->has_partial)
	{
		if (take_hole(handout, now->partial.position))
			used_up = now->partial.position;
		full = handout->chunk->events > 0;
	}
	for (int i = 0; i < now->nholes; i++)
	{
		int64		hole = now->holes[i];

		if (hole == used_up)
			continue;
		if (full || !hole_has_ended(handout, hole) ||
			!take_hole(handout, hole))
			next->holes[next->nholes++] = hole;
		full = full || handout->chunk->events >= handout->wanted;
	}
}

/* Adds the running positions in (after, upto] to the next version's holes. */
static void
add_new_holes(Handout *handout, int64 after, int64 upto)
{
	const DbOptHorizon *horizon = &handout->horizon;
	DbOptVersion *next = &handout->next;
	int			first = dbopt_positions_upto(after, horizon->running,
											 horizon->nrunning);
	int			end = dbopt_positions_upto(upto, horizon->running,
										   horizon->nrunning);
	int			count = end - first;

	next->holes = repalloc(next->holes,
						   sizeof(int64) * (next->nholes + count + 1));
	memcpy(next->holes + next->nholes, horizon->running + first,
		   sizeof(int64) * count);
	next->nholes += count;
	handout->chunk->exclude = next->holes + next->nholes - count;
	handout->chunk->nexclude = count;
}

/* Takes the next events behind the cursor; false: it stays where it is. */
static bool
take_range(Handout *handout)
{
	DbOptChunk *chunk = handout->chunk;
	DbOptPlace	end = {handout->horizon.limit - 1, true, (Datum) 0};
	DbOptPlace	last = end;

	if (end.position < handout->now.last.position ||
		(end.position == handout->now.last.position &&
		 handout->now.last.whole))
		return false;
	chunk->from = handout->now.last;
	chunk->events = count_events(handout, &chunk->from, &end, handout->wanted,
								 &last);
	if (chunk->events == 0 && handout->passed_over < MANY_PASSED_OVER)
		return false;
	chunk->to = last;
	handout->next.last = last;
	add_new_holes(handout, handout->now.last.position, last.position);
	return true;
}

static DbOptHandoutResult
handout_result(const Handout *handout)
{
	if (handout->chunk->events == 0)
		return DBOPT_HANDOUT_NONE;
	return handout->chunk->events < handout->wanted &&
		handout->chunk->npositions == 0 ?
		DBOPT_HANDOUT_LAST : DBOPT_HANDOUT_FULL;
}

/*
 * Finds what to hand out.  Returns whether the cursor moves: also without
 * events, when holes have turned out to be empty.
 */
static bool
find_events(Handout *handout)
{
	handout->next = handout->now;
	handout->next.seq++;
	take_holes(handout);
	return handout->chunk->events > 0 || take_range(handout) ||
		handout->next.nholes != handout->now.nholes ||
		handout->next.has_partial != handout->now.has_partial;
}

DbOptHandoutResult
dbopt_handout(const DbOptConfig *config, const DbOptSource *source,
			  const DbOptCursor *cursor, int wanted, DbOptChunk *chunk)
{
	Handout		handout = {0};
	bool		moved = false;

	memset(chunk, 0, sizeof(*chunk));
	handout.event_type = cursor->event_type;
	handout.wanted = wanted;
	handout.chunk = chunk;

	handout.log = dbopt_log_open_source(source);
	dbopt_cursor_lock(cursor->cursor_id);
	handout.snapshot = dbopt_log_snapshot(&handout.log);
	dbopt_horizon_read(handout.snapshot, config->position_offset,
					   &handout.horizon);
	if (dbopt_version_read(handout.log, cursor->cursor_id, handout.snapshot,
						   &handout.now))
		moved = find_events(&handout);
	if (moved)
		dbopt_version_replace(handout.log, &handout.now, &handout.next);
	if (chunk->events > 0)
	{
		chunk->cursor_id = cursor->cursor_id;
		chunk->seq = handout.next.seq;
		dbopt_chunk_insert(handout.log, chunk);
	}
	UnregisterSnapshot(handout.snapshot);
	dbopt_log_close(handout.log);
	return handout_result(&handout);
}
