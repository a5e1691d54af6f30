/*
 * test_histogram.c
 *		Unit tests of policy/histogram.
 */
#include "c.h"

#include <math.h>
#include <stdlib.h>

#include "policy/histogram.h"
#include "tap.h"

/* libc's, so that PostgreSQL's need not be linked */
#undef qsort

#define SAMPLES 10000

static void
test_bounds(void)
{
	static const int64 times[] = {
		PG_INT64_MIN, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 1000,
		INT64CONST(3221225471), INT64CONST(3221225472), PG_INT64_MAX
	};
	static const int buckets[] = {
		0, 0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 19, 62, 63, 63
	};
	bool		ascending = true;
	bool		exact = true;

	for (size_t i = 0; i < lengthof(times); i++)
		is_int(dbopt_histogram_bucket(times[i]), buckets[i],
			   "bucket of %lld", (long long) times[i]);
	for (int i = 0; i < DBOPT_HISTOGRAM_BUCKETS - 1; i++)
	{
		int64		bound = dbopt_histogram_bound(i);

		ascending = ascending && bound < dbopt_histogram_bound(i + 1);
		exact = exact && dbopt_histogram_bucket(bound - 1) == i &&
			dbopt_histogram_bucket(bound) == i + 1;
	}
	ok(ascending, "bounds ascend");
	ok(exact, "a bound is the first time of the next bucket");
	ok(dbopt_histogram_bound(63) == PG_INT64_MAX, "the last bucket is open");
}

static void
test_small(void)
{
	DbOptHistogram histogram = {{0}};

	ok(dbopt_histogram_quantile(&histogram, 0.5) == 0, "empty: 0");
	histogram.buckets[dbopt_histogram_bucket(1000)] = 1;
	for (int q = 0; q <= 100; q += 25)
	{
		double		time = dbopt_histogram_quantile(&histogram, q / 100.0);

		ok(time >= 768 && time <= 1024, "one time of 1000: %d%% is near", q);
	}
	histogram.buckets[0] = 99;
	ok(dbopt_histogram_quantile(&histogram, 0.5) < 1, "most are under 1");
	ok(dbopt_histogram_quantile(&histogram, 0.99) <= 1, "99%% are");
	ok(dbopt_histogram_quantile(&histogram, 0.995) >= 768, "one is not");
	histogram.buckets[63] = PG_UINT64_MAX;
	ok(dbopt_histogram_quantile(&histogram, 0.99) >= 3221225472.0,
	   "counts as large as can be");
}

static int
compare_times(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Times spread over six powers of ten: the error is what the header says. */
static void
test_error(void)
{
	static int64 times[SAMPLES];
	DbOptHistogram histogram = {{0}};
	uint64		state = 1;
	double		worst = 0;

	for (int i = 0; i < SAMPLES; i++)
	{
		double		u = (double) (test_random(&state) >> 11) / (UINT64CONST(1) << 53);

		times[i] = (int64) pow(10, 1 + 6 * u);
		histogram.buckets[dbopt_histogram_bucket(times[i])]++;
	}
	qsort(times, SAMPLES, sizeof(int64), compare_times);
	for (int i = 100; i < SAMPLES; i += 100)
	{
		double		exact = (double) times[i - 1];
		double		q = (double) i / SAMPLES;
		double		error =
		fabs(dbopt_histogram_quantile(&histogram, q) - exact) / exact;

		worst = Max(worst, error);
	}
	ok(worst <= 0.5, "no quantile is off by more than half");
	ok(worst <= 0.1, "with times spread evenly, none by more than a tenth");
}

int
main(void)
{
	test_bounds();
	test_small();
	test_error();
	return done_testing();
}
