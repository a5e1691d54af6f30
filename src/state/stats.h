/*
 * stats.h
 *		Counting without a query: a chunk counts in its own memory and adds
 *		the sum to its handler's slot once, when the chunk is settled.
 */
#ifndef DBOPT_STATS_H
#define DBOPT_STATS_H

#include "state/shmem.h"

typedef struct DbOptTally
{
	DbOptCounters counters;		/* rejected is left to the breaker */
	char		error_code[6];	/* of the last failure, "" for none */
	char		error[DBOPT_ERROR_LENGTH];
} DbOptTally;

/* Time spent: on one event; on "events" of them together. */
extern void dbopt_tally_time(DbOptTally *tally, int64 microseconds);
extern void dbopt_tally_times(DbOptTally *tally, int64 microseconds,
							  int events);
extern void dbopt_tally_error(DbOptTally *tally, const char *sqlstate,
							  const char *message);

/*
 * All of these accept slot -1 and do nothing.  Mean time and failure rate are
 * means over the recent attempts, weighted exponentially: an attempt counts
 * half as much after about 13 others.
 */
extern void dbopt_stats_add(int slot, const DbOptTally *tally);
extern double dbopt_stats_mean_time(int slot);	/* microseconds, 0: unknown */
extern double dbopt_stats_failure_rate(int slot);	/* 0 to 1 */
extern void dbopt_stats_in_flight(int slot, int delta);
extern void dbopt_stats_reset(int slot);

/*
 * Across a clean restart: saved when the postmaster exits after a shutdown
 * checkpoint, loaded and removed at start.  true: the last shutdown was clean.
 */
extern void dbopt_stats_save(int code, Datum arg);
extern bool dbopt_stats_load(void);

#endif							/* DBOPT_STATS_H */
