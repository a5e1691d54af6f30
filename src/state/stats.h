/*
 * stats.h
 *		Counting without a query: a chunk counts in its own memory and adds
 *		the sum to its handler's slot once, when the chunk is settled.
 *
 * Times are counted in a histogram of 64 buckets, two for each power of two:
 * bucket 0 is under 1 microsecond, bucket 1 is 1, then [2, 3), [3, 4),
 * [4, 6), [6, 8), [8, 12), ... and the last one is everything from 3 * 2^30
 * microseconds (about 54 minutes) on.  A quantile is interpolated within its
 * bucket, so that it is off by less than the bucket's width: at most half the
 * true value where the bucket is [2^n, 3 * 2^(n-1)), a third where it is
 * [3 * 2^(n-1), 2^(n+1)), and usually a few per cent.
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
 * The histogram, in microseconds.  A bucket's bound is the smallest time
 * beyond it, PG_INT64_MAX for the last; the quantile (q from 0 to 1) of an
 * empty histogram is 0.
 */
extern int	dbopt_histogram_bucket(int64 microseconds);
extern int64 dbopt_histogram_bound(int bucket);
extern double dbopt_histogram_quantile(const DbOptHistogram *histogram,
									   double q);

/*
 * Across a clean restart: saved when the postmaster exits after a shutdown
 * checkpoint, loaded and removed at start.  true: the last shutdown was clean.
 */
extern void dbopt_stats_save(int code, Datum arg);
extern bool dbopt_stats_load(void);

#endif							/* DBOPT_STATS_H */
