/*
 * backoff.c
 *		The arithmetic of delays.
 *
 * Every backend and worker may call this.  Values pass through double, where
 * an overflow is infinity and not undefined, and come back to int64 only in
 * whole_delay(), the one place that has to know how to saturate.
 */
#include "c.h"

#include <math.h>

#include "policy/backoff.h"

static const char *const jitter_names[] = {
	[DBOPT_JITTER_NONE] = "none",
	[DBOPT_JITTER_PROPORTIONAL] = "proportional",
	[DBOPT_JITTER_EQUAL] = "equal",
	[DBOPT_JITTER_FULL] = "full"
};

/*
 * Sets *jitter and returns true if the name is known, else leaves it alone.
 */
bool
dbopt_jitter_parse(const char *name, DbOptJitter *jitter)
{
	for (size_t i = 0; i < lengthof(jitter_names); i++)
	{
		if (strcmp(name, jitter_names[i]) == 0)
		{
			*jitter = (DbOptJitter) i;
			return true;
		}
	}
	return false;
}

const char *
dbopt_jitter_name(DbOptJitter jitter)
{
	Assert((size_t) jitter < lengthof(jitter_names));

	return jitter_names[jitter];
}

/*
 * To whole microseconds, and no more than cap.  The comparison is written so
 * that NaN and infinity become cap, too; what is below (double) cap always
 * fits, even where that has been rounded up to 2^63.
 */
static int64
whole_delay(double delay, int64 cap)
{
	if (!(delay < (double) cap))
		return cap;
	return (int64) rint(delay);
}

/*
 * A share or probability, whatever the caller computed: NaN counts as 0.
 */
static double
unit_interval(double x)
{
	if (!(x > 0))
		return 0;
	return Min(x, 1);
}

int64
dbopt_backoff_base(const DbOptBackoff *backoff, int attempt)
{
	int64		cap = Max(backoff->max_delay, 0);
	double		multiplier = backoff->multiplier > 1 ? backoff->multiplier : 1;

	/* 0 * infinity is not a number, but waiting 0 longer and longer is 0 */
	if (backoff->base_delay <= 0)
		return 0;
	return whole_delay((double) backoff->base_delay *
					   pow(multiplier, Max(attempt, 1) - 1), cap);
}

static double
add_jitter(DbOptJitter jitter, double delay, double u)
{
	switch (jitter)
	{
		case DBOPT_JITTER_NONE:
			break;
		case DBOPT_JITTER_PROPORTIONAL:
			return delay * (0.5 + u);
		case DBOPT_JITTER_EQUAL:
			return delay / 2 + u * delay / 2;
		case DBOPT_JITTER_FULL:
			return delay * u;
	}
	return delay;
}

int64
dbopt_backoff_delay(const DbOptBackoff *backoff, int attempt,
					double failure_rate, double u)
{
	int64		cap = backoff->max_delay;
	double		share = 1 - unit_interval(failure_rate);
	double		delay = (double) dbopt_backoff_base(backoff, attempt);

	delay /= Max(share, DBOPT_MIN_ATTEMPT_SHARE);
	delay = Min(delay, (double) cap);
	delay = add_jitter(backoff->jitter, delay, unit_interval(u));
	return Max(whole_delay(delay, cap), DBOPT_MIN_DELAY_US);
}
