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
 */
#ifndef DBOPT_BACKOFF_H
#define DBOPT_BACKOFF_H

#define DBOPT_MIN_DELAY_US	INT64CONST(1000)	/* never less than 1 ms */

typedef enum DbOptJitter
{
	DBOPT_JITTER_NONE,			/* d */
	DBOPT_JITTER_PROPORTIONAL,	/* d * (0.5 + u) */
	DBOPT_JITTER_EQUAL,			/* d / 2 + u * d / 2 */
	DBOPT_JITTER_FULL			/* u * d */
} DbOptJitter;

typedef struct DbOptBackoff
{
	int64		base_delay;		/* microseconds, >= 0 */
	int64		max_delay;		/* microseconds, >= 0; caps every delay */
	double		multiplier;		/* >= 1 */
	DbOptJitter jitter;
} DbOptBackoff;

extern bool dbopt_jitter_parse(const char *name, DbOptJitter *jitter);
extern const char *dbopt_jitter_name(DbOptJitter jitter);
extern int64 dbopt_backoff_base(const DbOptBackoff *backoff, int attempt);
extern int64 dbopt_backoff_delay(const DbOptBackoff *backoff, int attempt,
								 double failure_rate, double u);

#endif							/* DBOPT_BACKOFF_H */
