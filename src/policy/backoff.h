/*
 * backoff.h
 *		How long to wait before an attempt is repeated.
 *
 * Pure functions of their arguments: the random number is passed in, so that
 * a test can draw every value, and no clock is read.  All durations are in
 * microseconds.
 *
 * Formulas: exponential backoff with a cap; the jitter kinds "full" and
 * "equal" as in M. Brooker, "Exponential Backoff And Jitter", AWS
 * Architecture Blog, 2015; "proportional" is d * (0.5 + u).
 *
 * The adaptive stretch is d / (1 - failure rate), at most ten-fold.  It is the
 * client-side throttling of "Site Reliability Engineering" (O'Reilly, 2016),
 * chapter 21, with K = 1: a client sends the share accepts / requests of what
 * it would send.  Here the share spreads over time instead of rejecting: a
 * waiting event is tried at the rate (1 - r) / d rather than 1 / d.  The limit
 * keeps the exponential growth visible when everything fails, and a handler's
 * first failure from waiting for max_delay.
 */
#ifndef DBOPT_BACKOFF_H
#define DBOPT_BACKOFF_H

#define DBOPT_MIN_DELAY_US	INT64CONST(1000)	/* never less than 1 ms */

/* the smallest share of its attempts that an adaptive backoff lets through */
#define DBOPT_MIN_ATTEMPT_SHARE	0.1

typedef enum DbOptJitter
{
	DBOPT_JITTER_NONE,			/* d */
	DBOPT_JITTER_PROPORTIONAL,	/* d * (0.5 + u) */
	DBOPT_JITTER_EQUAL,			/* d / 2 + u * d / 2 */
	DBOPT_JITTER_FULL			/* u * d */
} DbOptJitter;

/*
 * Values outside of the stated ranges do no harm: a negative duration counts
 * as 0, and a multiplier that is NaN or below 1 counts as 1.
 */
typedef struct DbOptBackoff
{
	int64		base_delay;		/* microseconds, >= 0 */
	int64		max_delay;		/* microseconds, >= 0; caps every delay */
	double		multiplier;		/* >= 1 */
	DbOptJitter jitter;
} DbOptBackoff;

/* The names are those of the SQL surface, in lower case. */
extern bool dbopt_jitter_parse(const char *name, DbOptJitter *jitter);
extern const char *dbopt_jitter_name(DbOptJitter jitter);

/*
 * dbopt_backoff_base() is the delay after attempt n, n = 1 being the first
 * try, without failure rate, jitter and lower bound: min(base_delay *
 * multiplier^(n - 1), max_delay), for every int; below 1 counts as 1.
 *
 * dbopt_backoff_delay() is the delay to wait: stretched for failure_rate (0
 * to 1; 0 where the policy is not adaptive), capped, spread by the jitter with
 * the random number u in [0, 1), and capped again.  It is never less than
 * DBOPT_MIN_DELAY_US, which wins over a smaller max_delay.
 */
extern int64 dbopt_backoff_base(const DbOptBackoff *backoff, int attempt);
extern int64 dbopt_backoff_delay(const DbOptBackoff *backoff, int attempt,
								 double failure_rate, double u);

#endif							/* DBOPT_BACKOFF_H */
