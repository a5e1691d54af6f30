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
	DbOptCounters counters;
	char		error_code[6];	/* of the last failure, "" for none */
	char		error[DBOPT_ERROR_LENGTH];
} DbOptTally;

extern void dbopt_tally_time(DbOptTally *tally, int64 microseconds);
extern void dbopt_tally_error(DbOptTally *tally, const char *sqlstate,
							  const char *message);
extern void dbopt_stats_add(int slot, const DbOptTally *tally);
extern double dbopt_stats_mean_time(int slot);	/* microseconds, 0: unknown */
extern double dbopt_stats_failure_rate(int slot);
extern void dbopt_stats_in_flight(int slot, int delta);

/* Bucket bounds and quantiles of the histogram, in microseconds. */
extern int	dbopt_histogram_bucket(int64 microseconds);
extern int64 dbopt_histogram_bound(int bucket);
extern double dbopt_histogram_quantile(const DbOptHistogram *histogram,
									   double q);

/* Across a clean restart: saved when the postmaster exits, loaded at start. */
extern void dbopt_stats_save(int code, Datum arg);
extern bool dbopt_stats_load(void);

#endif							/* DBOPT_STATS_H */
