/*
 * fate.c
 *		What becomes of an event that has failed.
 *
 * Run by pool sessions.  Asks policy/ with plain values.  No locks.
 */
#include "postgres.h"

#include "engine/fate.h"

/* How far a handler's own retry_after may go beyond its policy's max_delay. */
#define RETRY_AFTER_CAP 10

#define RETRY_AFTER "retry_after="

typedef struct Unit
{
	const char *name;
	double		microseconds;
} Unit;

static const Unit units[] = {
	{"ms", 1e3}, {"s", 1e6}, {"min", 60e6}, {"h", 3600e6}, {"d", 86400e6}
};

/*
 * Parses "retry_after=30s", which must be the whole text: digits with at most
 * one point, then a unit (ms, s, min, h, d).  Microseconds; -1: not that form.
 */
static double
retry_after(const char *text)
{
	double		number = 0,
				scale = 0;
	int			digits = 0;

	if (text == NULL || strncmp(text, RETRY_AFTER, strlen(RETRY_AFTER)) != 0)
		return -1;
	for (text +=strlen(RETRY_AFTER); digits <= 15; text ++)
	{
		if (*text == '.' && scale == 0)
			scale = 1;
		else if (*text >='0' && *text <='9')
		{
			number = number * 10 + (*text -'0');
			scale *= 10;
			digits++;
		}
		else
			break;
	}
	for (int i = 0; digits > 0 && i < lengthof(units); i++)
		if (strcmp(text, units[i].name) == 0)
			return number / Max(scale, 1) * units[i].microseconds;
	return -1;
}

/* What the handler asked for in its error's hint or detail; -1: nothing. */
static int64
delay_asked_for(const DbOptFailure *failure, const DbOptBackoff *backoff)
{
	double		asked = retry_after(failure->hint);
	double		cap = (double) backoff->max_delay * RETRY_AFTER_CAP;

	if (asked < 0)
		asked = retry_after(failure->detail);
	if (asked < 0)
		return -1;
	return (int64) Max(Min(asked, cap), DBOPT_MIN_DELAY_US);
}

DbOptFate
dbopt_fate(const DbOptHandler *handler, const DbOptFailure *failure,
		   int attempts, double failure_rate, double u, TimestampTz now)
{
	const DbOptPolicy *policy = handler->policy;
	DbOptFate	fate = {0};
	int64		delay;

	fate.retryable = dbopt_classify(policy->rules, policy->nrules,
									policy->retry_unknown, failure->sqlstate,
									failure->message);
	if (!fate.retryable || attempts >= policy->max_attempts)
		return fate;
	delay = delay_asked_for(failure, &policy->backoff);
	if (delay < 0)
		delay = dbopt_backoff_delay(&policy->backoff, attempts,
									policy->adaptive ? failure_rate : 0, u);
	fate.retry_at = delay > PG_INT64_MAX - now ? PG_INT64_MAX - 1 :
		now + delay;
	return fate;
}
