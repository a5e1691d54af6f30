/*
 * histogram.h
 *		Durations, counted in 64 buckets: two for each power of two.
 *
 * Bucket 0 is under 1 microsecond, bucket 1 is 1, then [2, 3), [3, 4),
 * [4, 6), [6, 8), [8, 12), ... and the last one is everything from 3 * 2^30
 * microseconds (about 54 minutes) on.  A quantile is interpolated within its
 * bucket, so that it is off by less than the bucket's width: at most half the
 * true value where the bucket is [2^n, 3 * 2^(n-1)), a third where it is
 * [3 * 2^(n-1), 2^(n+1)), and usually a few per cent.
 */
#ifndef DBOPT_HISTOGRAM_H
#define DBOPT_HISTOGRAM_H

#define DBOPT_HISTOGRAM_BUCKETS 64

typedef struct DbOptHistogram
{
	uint64		buckets[DBOPT_HISTOGRAM_BUCKETS];
} DbOptHistogram;

extern int	dbopt_histogram_bucket(int64 microseconds);

/* The smallest time beyond a bucket, PG_INT64_MAX for the last one. */
extern int64 dbopt_histogram_bound(int bucket);

/*
 * In microseconds, for q from 0 to 1; 0 for an empty histogram.  In the last
 * bucket the answer is a guess of up to 2^32.
 */
extern double dbopt_histogram_quantile(const DbOptHistogram *histogram,
									   double q);

#endif							/* DBOPT_HISTOGRAM_H */
