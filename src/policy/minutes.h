/*
 * minutes.h
 *		The last hour, minute by minute: rings of DBOPT_MINUTES slots.
 *
 * Pure functions over a ring that the caller has locked or copied; the time is
 * passed in (microseconds, any epoch).  A minute's slot is found by its number,
 * so that counting costs no search: "newest" is the last minute that was
 * counted in, and whoever comes later clears the slots in between.  All zero
 * is an empty ring.
 *
 * While the clock has been set back by less than an hour, its minutes are
 * counted where they were counted before; if by more, the ring starts anew.
 */
#ifndef DBOPT_MINUTES_H
#define DBOPT_MINUTES_H

#include "policy/histogram.h"

#define DBOPT_MINUTES	60

/* A handler's events in a minute. */
typedef struct DbOptHandlerMinute
{
	uint32		successes;
	uint32		failures;
} DbOptHandlerMinute;

typedef struct DbOptHandlerMinutes
{
	int64		newest;			/* minutes since the epoch */
	DbOptHandlerMinute slots[DBOPT_MINUTES];
} DbOptHandlerMinutes;

/* A database's: all events, and the most that the pool had to do. */
typedef struct DbOptDatabaseMinute
{
	uint32		successes;
	uint32		failures;
	uint32		dead_letters;
	uint32		used;			/* sessions at work at a time, at most */
	uint32		waiting;		/* jobs without a session at a time, at most */
	uint32		times[DBOPT_HISTOGRAM_BUCKETS]; /* events by their time in the
												 * handler */
} DbOptDatabaseMinute;

typedef struct DbOptDatabaseMinutes
{
	int64		newest;			/* minutes since the epoch */
	uint32		used;			/* at present: with this a minute begins */
	uint32		waiting;
	DbOptDatabaseMinute slots[DBOPT_MINUTES];
} DbOptDatabaseMinutes;

/* What is added to a database's minute. */
typedef struct DbOptMinuteCounts
{
	uint64		successes;
	uint64		failures;
	uint64		dead_letters;
	const DbOptHistogram *times;
} DbOptMinuteCounts;

extern void dbopt_handler_minutes_add(DbOptHandlerMinutes *ring, int64 now,
									  uint64 successes, uint64 failures);
extern void dbopt_database_minutes_add(DbOptDatabaseMinutes *ring, int64 now,
									   const DbOptMinuteCounts *counts);

/* So many sessions are at work, and jobs without one, from now on. */
extern void dbopt_database_minutes_level(DbOptDatabaseMinutes *ring,
										 int64 now, uint32 used,
										 uint32 waiting);

/* So many were in use for a moment: the level stays. */
extern void dbopt_database_minutes_peak(DbOptDatabaseMinutes *ring, int64 now,
										uint32 used);

/* The DBOPT_MINUTES minutes up to that of "now", the oldest first. */
extern void dbopt_handler_minutes_read(const DbOptHandlerMinutes *ring,
									   int64 now, DbOptHandlerMinute *minutes);
extern void dbopt_database_minutes_read(const DbOptDatabaseMinutes *ring,
										int64 now,
										DbOptDatabaseMinute *minutes);

#endif							/* DBOPT_MINUTES_H */
