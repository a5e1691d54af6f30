/*
 * test_backoff.c
 *		Unit tests of policy/backoff.
 */
#include "c.h"

#include <limits.h>
#include <math.h>

#include "policy/backoff.h"
#include "tap.h"

#define MS(n)		((n) * INT64CONST(1000))
#define SEC(n)		((n) * INT64CONST(1000000))
#define FOREVER		PG_INT64_MAX
#define DRAWS		100000

/* the largest double below 1 */
#define ALMOST_ONE	(1 - 1.0 / (INT64CONST(1) << 53))

typedef struct BaseCase
{
	const char *name;
	int64		base_delay;
	int64		max_delay;
	double		multiplier;
	int			attempt;
	int64		expected;
} BaseCase;

static const BaseCase base_cases[] = {
	{"100 ms doubling", MS(100), SEC(2), 2, 1, MS(100)},
	{"100 ms doubling", MS(100), SEC(2), 2, 2, MS(200)},
	{"100 ms doubling", MS(100), SEC(2), 2, 3, MS(400)},
	{"1 s up to 2 s", SEC(1), SEC(2), 2, 1, SEC(1)},
	{"1 s up to 2 s", SEC(1), SEC(2), 2, 2, SEC(2)},
	{"1 s up to 2 s", SEC(1), SEC(2), 2, 3, SEC(2)},
	{"1 s up to 2 s", SEC(1), SEC(2), 2, 4, SEC(2)},
	{"cap between two steps", SEC(1), SEC(3), 2, 3, SEC(3)},
	{"multiplier 1", MS(250), SEC(30), 1, 1000, MS(250)},
	{"multiplier 1.15 is rounded", MS(100), SEC(30), 1.15, 2, MS(115)},
	{"multiplier 1.5", MS(100), SEC(30), 1.5, 4, 337500},
	{"base above the cap", SEC(9), SEC(5), 2, 1, SEC(5)},
	{"attempt 0 counts as 1", SEC(1), SEC(30), 2, 0, SEC(1)},
	{"attempt -7 counts as 1", SEC(1), SEC(30), 2, -7, SEC(1)},
	{"attempt INT_MIN counts as 1", SEC(1), SEC(30), 2, INT_MIN, SEC(1)},
	{"attempt INT_MAX", SEC(1), SEC(30), 2, INT_MAX, SEC(30)},
	{"attempt INT_MAX, no cap", SEC(1), FOREVER, 2, INT_MAX, FOREVER},
	{"attempt INT_MAX, slow growth", SEC(1), SEC(30), 1 + 1e-12, INT_MAX,
	1002150},
	{"multiplier 1e308", 1, SEC(30), 1e308, 2, SEC(30)},
	{"multiplier 1e308, no cap", 1, FOREVER, 1e308, 2, FOREVER},
	{"multiplier 1e308 twice", 1, SEC(30), 1e308, 3, SEC(30)},
	{"multiplier 1e308, first", SEC(1), SEC(30), 1e308, 1, SEC(1)},
	{"base INT64_MAX", FOREVER, FOREVER, 2, 1, FOREVER},
	{"base INT64_MAX grows", FOREVER, FOREVER, 2, 2, FOREVER},
	{"base INT64_MAX, cap", FOREVER, SEC(30), 1, 1, SEC(30)},
	{"all at their ends", FOREVER, FOREVER, 1e308, INT_MAX, FOREVER},
	{"largest power below 2^63", 1, FOREVER, 2, 63, INT64CONST(1) << 62},
	{"first power above", 1, FOREVER, 2, 64, FOREVER},
	{"base 0", 0, SEC(30), 2, 5, 0},
	{"base 0, infinite growth", 0, SEC(30), INFINITY, 5, 0},
	{"base below 0", -5, SEC(30), 2, 5, 0},
	{"cap 0", SEC(1), 0, 2, 1, 0},
	{"cap below 0", SEC(1), -1, 2, 1, 0},
	{"multiplier infinite, first", SEC(1), SEC(30), INFINITY, 1, SEC(1)},
	{"multiplier infinite, second", SEC(1), SEC(30), INFINITY, 2, SEC(30)},
	{"multiplier NaN counts as 1", SEC(1), SEC(30), NAN, 9, SEC(1)},
	{"multiplier 0.5 counts as 1", SEC(1), SEC(30), 0.5, 9, SEC(1)},
	{"multiplier -2 counts as 1", SEC(1), SEC(30), -2, 2, SEC(1)}
};

static void
test_base(void)
{
	for (size_t i = 0; i < lengthof(base_cases); i++)
	{
		const BaseCase *c = &base_cases[i];
		DbOptBackoff backoff = {c->base_delay, c->max_delay, c->multiplier,
		DBOPT_JITTER_FULL};

		is_int(dbopt_backoff_base(&backoff, c->attempt), c->expected,
			   "base: %s, attempt %d", c->name, c->attempt);
	}
}

typedef struct DelayCase
{
	const char *name;
	int64		base_delay;
	int64		max_delay;
	DbOptJitter jitter;
	double		failure_rate;
	double		u;
	int64		expected;
} DelayCase;

static const DelayCase delay_cases[] = {
	{"none", SEC(1), SEC(30), DBOPT_JITTER_NONE, 0, 0.75, SEC(1)},
	{"proportional, u 0", SEC(1), SEC(30), DBOPT_JITTER_PROPORTIONAL, 0, 0,
	MS(500)},
	{"proportional, u 0.75", SEC(1), SEC(30), DBOPT_JITTER_PROPORTIONAL, 0,
	0.75, MS(1250)},
	{"proportional, over the cap", SEC(25), SEC(30),
	DBOPT_JITTER_PROPORTIONAL, 0, 0.75, SEC(30)},
	{"equal, u 0", SEC(1), SEC(30), DBOPT_JITTER_EQUAL, 0, 0, MS(500)},
	{"equal, u 0.75", SEC(1), SEC(30), DBOPT_JITTER_EQUAL, 0, 0.75, MS(875)},
	{"full, u 0 is 1 ms", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, 0, MS(1)},
	{"full, u 0.75", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, 0.75, MS(750)},
	{"full, u almost 1", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, ALMOST_ONE,
	SEC(1)},
	{"full, u 2 counts as 1", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, 2,
	SEC(1)},
	{"full, u -1 counts as 0", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, -1,
	MS(1)},
	{"full, u NaN counts as 0", SEC(1), SEC(30), DBOPT_JITTER_FULL, 0, NAN,
	MS(1)},
	{"proportional without end", FOREVER, FOREVER, DBOPT_JITTER_PROPORTIONAL,
	1, ALMOST_ONE, FOREVER},
	{"base 0", 0, SEC(30), DBOPT_JITTER_NONE, 0, 0, MS(1)},
	{"base 0, rate 1", 0, SEC(30), DBOPT_JITTER_NONE, 1, 0, MS(1)},
	{"base 999 us", 999, SEC(30), DBOPT_JITTER_NONE, 0, 0, MS(1)},
	{"base 1001 us", 1001, SEC(30), DBOPT_JITTER_NONE, 0, 0, 1001},
	{"1 ms wins over a smaller cap", SEC(1), 10, DBOPT_JITTER_NONE, 0, 0,
	MS(1)},
	{"1 ms wins over a cap below 0", SEC(1), -10, DBOPT_JITTER_EQUAL, 1, 0.5,
	MS(1)},
	{"rate 0.2", SEC(1), SEC(30), DBOPT_JITTER_NONE, 0.2, 0, MS(1250)},
	{"rate 0.5", SEC(1), SEC(30), DBOPT_JITTER_NONE, 0.5, 0, SEC(2)},
	{"rate 0.75", SEC(1), SEC(30), DBOPT_JITTER_NONE, 0.75, 0, SEC(4)},
	{"rate 0.95: ten-fold at most", SEC(1), SEC(30), DBOPT_JITTER_NONE, 0.95,
	0, SEC(10)},
	{"rate 1", SEC(1), SEC(30), DBOPT_JITTER_NONE, 1, 0, SEC(10)},
	{"rate 1, capped", SEC(4), SEC(30), DBOPT_JITTER_NONE, 1, 0, SEC(30)},
	{"rate 1, capped before jitter", SEC(4), SEC(30), DBOPT_JITTER_FULL, 1,
	0.5, SEC(15)},
	{"rate 7 counts as 1", SEC(1), SEC(30), DBOPT_JITTER_NONE, 7, 0, SEC(10)},
	{"rate -1 counts as 0", SEC(1), SEC(30), DBOPT_JITTER_NONE, -1, 0, SEC(1)},
	{"rate NaN counts as 0", SEC(1), SEC(30), DBOPT_JITTER_NONE, NAN, 0,
	SEC(1)}
};

static void
test_delay(void)
{
	DbOptBackoff doubling = {MS(100), SEC(2), 2, DBOPT_JITTER_NONE};

	for (size_t i = 0; i < lengthof(delay_cases); i++)
	{
		const DelayCase *c = &delay_cases[i];
		DbOptBackoff backoff = {c->base_delay, c->max_delay, 2, c->jitter};

		is_int(dbopt_backoff_delay(&backoff, 1, c->failure_rate, c->u),
			   c->expected, "delay: %s", c->name);
	}
	is_int(dbopt_backoff_delay(&doubling, 3, 0, 0), MS(400),
		   "delay: third attempt");
	is_int(dbopt_backoff_delay(&doubling, 3, 0.5, 0), MS(800),
		   "delay: third attempt, rate 0.5");
	is_int(dbopt_backoff_delay(&doubling, INT_MAX, 0.5, 0), SEC(2),
		   "delay: last attempt of all");
}

static void
test_rate_is_monotonic(void)
{
	DbOptBackoff backoff = {SEC(1), SEC(30), 2, DBOPT_JITTER_NONE};
	int64		last = dbopt_backoff_delay(&backoff, 1, 0, 0);
	bool		grows = true;

	for (int percent = 1; percent <= 90; percent++)
	{
		int64		delay = dbopt_backoff_delay(&backoff, 1, percent / 100.0,
												0);

		grows = grows && delay > last;
		last = delay;
	}
	ok(grows, "delay: grows with each per cent of failures up to 90");
}

typedef struct JitterCase
{
	DbOptJitter jitter;
	int			attempt;		/* of 10 s, doubling, up to 40 s */
	int64		least;
	int64		most;
	int64		mean;
} JitterCase;

/*
 * In the last attempt's row for "proportional", half of all draws lie over the
 * cap: the mean is 40 s * (0.5 * 0.75 + 0.5 * 1).
 */
static const JitterCase jitter_cases[] = {
	{DBOPT_JITTER_NONE, 1, SEC(10), SEC(10), SEC(10)},
	{DBOPT_JITTER_NONE, 9, SEC(40), SEC(40), SEC(40)},
	{DBOPT_JITTER_PROPORTIONAL, 1, SEC(5), SEC(15), SEC(10)},
	{DBOPT_JITTER_PROPORTIONAL, 2, SEC(10), SEC(30), SEC(20)},
	{DBOPT_JITTER_PROPORTIONAL, 9, SEC(20), SEC(40), SEC(35)},
	{DBOPT_JITTER_EQUAL, 1, SEC(5), SEC(10), MS(7500)},
	{DBOPT_JITTER_EQUAL, 9, SEC(20), SEC(40), SEC(30)},
	{DBOPT_JITTER_FULL, 1, MS(1), SEC(10), SEC(5)},
	{DBOPT_JITTER_FULL, 9, MS(1), SEC(40), SEC(20)}
};

/*
 * The tolerance of the mean is about five of its standard deviations; that of
 * the ends, which must be nearly reached, would be missed by one seed in
 * exp(100).
 */
static void
test_jitter(const JitterCase *c)
{
	DbOptBackoff backoff = {SEC(10), SEC(40), 2, c->jitter};
	const char *name = dbopt_jitter_name(c->jitter);
	int64		slack = (c->most - c->least) / 1000;
	int64		least = PG_INT64_MAX;
	int64		most = 0;
	int64		sum = 0;
	uint64		seed = 20240229;

	for (int i = 0; i < DRAWS; i++)
	{
		double		u = (double) (test_random(&seed) >> 11) / (UINT64CONST(1) << 53);
		int64		delay = dbopt_backoff_delay(&backoff, c->attempt, 0, u);

		least = Min(least, delay);
		most = Max(most, delay);
		sum += delay;
	}
	ok(least >= c->least && most <= c->most,
	   "jitter %s, attempt %d: within its bounds", name, c->attempt);
	ok(least <= c->least + slack && most >= c->most - slack,
	   "jitter %s, attempt %d: fills its bounds", name, c->attempt);
	ok(fabs((double) sum / DRAWS - c->mean) <= (c->most - c->least) * 0.005,
	   "jitter %s, attempt %d: mean", name, c->attempt);
}

static void
test_jitter_names(void)
{
	static const struct
	{
		const char *name;
		DbOptJitter jitter;
	}			cases[] = {
		{"none", DBOPT_JITTER_NONE},
		{"proportional", DBOPT_JITTER_PROPORTIONAL},
		{"equal", DBOPT_JITTER_EQUAL},
		{"full", DBOPT_JITTER_FULL}
	};
	static const char *const unknown[] = {"", "Full", "ful", "fuller", " full"};
	DbOptJitter jitter;

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		jitter = (DbOptJitter) (cases[i].jitter ^ 1);
		ok(dbopt_jitter_parse(cases[i].name, &jitter) &&
		   jitter == cases[i].jitter, "jitter \"%s\" is known", cases[i].name);
		ok(strcmp(dbopt_jitter_name(cases[i].jitter), cases[i].name) == 0,
		   "jitter \"%s\" is named so", cases[i].name);
	}
	for (size_t i = 0; i < lengthof(unknown); i++)
	{
		jitter = DBOPT_JITTER_EQUAL;
		ok(!dbopt_jitter_parse(unknown[i], &jitter) &&
		   jitter == DBOPT_JITTER_EQUAL, "jitter \"%s\" is not", unknown[i]);
	}
}

int
main(void)
{
	test_base();
	test_delay();
	test_rate_is_monotonic();
	for (size_t i = 0; i < lengthof(jitter_cases); i++)
		test_jitter(&jitter_cases[i]);
	test_jitter_names();
	return done_testing();
}
