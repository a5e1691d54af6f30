/*
 * minutes.c
 *		The last hour, minute by minute.
 *
 * Sessions and schedulers call what counts, under the lock of the ring; who
 * reports calls what reads, on a copy.
 */
#include "c.h"

#include "policy/minutes.h"

#define MINUTE	INT64CONST(60000000)

/* The minute that a time is in, also before the epoch. */
static int64
minute_of(int64 time)
{
	return time >= 0 ? time / MINUTE : -((-1 - time) / MINUTE) - 1;
}

static int
slot_of(int64 minute)
{
	int			slot = (int) (minute % DBOPT_MINUTES);

	return slot < 0 ? slot + DBOPT_MINUTES : slot;
}

/* Is the minute one of those that the ring is about? */
static bool
is_held(int64 newest, int64 minute)
{
	return minute <= newest && newest - minute < DBOPT_MINUTES;
}

/*
 * How many slots, from this minute's on backwards, hold what is over before
 * the minute can be counted in.  Moves *newest.
 */
static int
move_on(int64 *newest, int64 minute)
{
	int64		passed = minute - *newest;

	if (is_held(*newest, minute))
		return 0;
	*newest = minute;
	return passed > 0 && passed < DBOPT_MINUTES ? (int) passed : DBOPT_MINUTES;
}

void
dbopt_handler_minutes_add(DbOptHandlerMinutes *ring, int64 now,
						  uint64 successes, uint64 failures)
{
	static const DbOptHandlerMinute empty = {0};
	int64		minute = minute_of(now);
	int			stale = move_on(&ring->newest, minute);
	DbOptHandlerMinute *slot = &ring->slots[slot_of(minute)];

	for (int back = 0; back < stale; back++)
		ring->slots[slot_of(minute - back)] = empty;
	slot->successes += (uint32) successes;
	slot->failures += (uint32) failures;
}

/* The slot to count in; the minutes that went by had what is at present. */
static DbOptDatabaseMinute *
database_slot(DbOptDatabaseMinutes *ring, int64 now)
{
	DbOptDatabaseMinute quiet = {.used = ring->used,.waiting = ring->waiting};
	int64		minute = minute_of(now);
	int			stale = move_on(&ring->newest, minute);

	for (int back = 0; back < stale; back++)
		ring->slots[slot_of(minute - back)] = quiet;
	return &ring->slots[slot_of(minute)];
}

void
dbopt_database_minutes_add(DbOptDatabaseMinutes *ring, int64 now,
						   const DbOptMinuteCounts *counts)
{
	DbOptDatabaseMinute *slot = database_slot(ring, now);

	slot->successes += (uint32) counts->successes;
	slot->failures += (uint32) counts->failures;
	slot->dead_letters += (uint32) counts->dead_letters;
	for (int bucket = 0; bucket < DBOPT_HISTOGRAM_BUCKETS; bucket++)
		slot->times[bucket] += (uint32) counts->times->buckets[bucket];
}

void
dbopt_database_minutes_level(DbOptDatabaseMinutes *ring, int64 now,
							 uint32 used, uint32 waiting)
{
	DbOptDatabaseMinute *slot = database_slot(ring, now);

	ring->used = used;
	ring->waiting = waiting;
	slot->used = Max(slot->used, used);
	slot->waiting = Max(slot->waiting, waiting);
}

void
dbopt_database_minutes_peak(DbOptDatabaseMinutes *ring, int64 now, uint32 used)
{
	DbOptDatabaseMinute *slot = database_slot(ring, now);

	slot->used = Max(slot->used, used);
}

void
dbopt_handler_minutes_read(const DbOptHandlerMinutes *ring, int64 now,
						   DbOptHandlerMinute *minutes)
{
	static const DbOptHandlerMinute empty = {0};
	int64		first = minute_of(now) - (DBOPT_MINUTES - 1);

	for (int i = 0; i < DBOPT_MINUTES; i++)
		minutes[i] = is_held(ring->newest, first + i) ?
			ring->slots[slot_of(first + i)] : empty;
}

void
dbopt_database_minutes_read(const DbOptDatabaseMinutes *ring, int64 now,
							DbOptDatabaseMinute *minutes)
{
	static const DbOptDatabaseMinute empty = {0};
	int64		first = minute_of(now) - (DBOPT_MINUTES - 1);

	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		minutes[i] = is_held(ring->newest, first + i) ?
			ring->slots[slot_of(first + i)] : empty;
		if (first + i > ring->newest)
		{
			minutes[i].used = ring->used;
			minutes[i].waiting = ring->waiting;
		}
	}
}
