/*
 * histogram.c
 *		Counting durations in buckets, and the quantiles of such counts.
 *
 * Every backend and worker may call this, on a histogram that it has locked or
 * copied.
 */
#include "c.h"

#include "policy/histogram.h"
#include "port/pg_bitutils.h"

/* The smallest time in a bucket. */
static int64
bucket_start(int bucket)
{
	if (bucket < 2)
		return bucket;
	return (INT64CONST(2) + bucket % 2) << (bucket / 2 - 1);
}

int
dbopt_histogram_bucket(int64 microseconds)
{
	int			power;
	int			bucket;

	if (microseconds < 2)
		return microseconds < 1 ? 0 : 1;
	power = pg_leftmost_one_pos64((uint64) microseconds);
	bucket = 2 * power + (int) ((microseconds >> (power - 1)) & 1);
	return Min(bucket, DBOPT_HISTOGRAM_BUCKETS - 1);
}

int64
dbopt_histogram_bound(int bucket)
{
	if (bucket >= DBOPT_HISTOGRAM_BUCKETS - 1)
		return PG_INT64_MAX;
	return bucket_start(bucket + 1);
}

double
dbopt_histogram_quantile(const DbOptHistogram *histogram, double q)
{
	double		total = 0;
	double		below = 0;
	double		wanted;
	int			bucket;

	for (bucket = 0; bucket < DBOPT_HISTOGRAM_BUCKETS; bucket++)
		total += (double) histogram->buckets[bucket];
	if (total <= 0)
		return 0;

	wanted = q * total;
	for (bucket = 0; bucket < DBOPT_HISTOGRAM_BUCKETS; bucket++)
	{
		double		count = (double) histogram->buckets[bucket];

		if (count > 0 && below + count >= wanted)
		{
			double		start = (double) bucket_start(bucket);
			double		end = (double) bucket_start(bucket + 1);

			return start + (end - start) * (wanted - below) / count;
		}
		below += count;
	}
	return (double) bucket_start(DBOPT_HISTOGRAM_BUCKETS);
}
