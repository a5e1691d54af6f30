/*
 * breaker.h
 *		The circuit breaker's state machine.
 *
 * Pure functions over a breaker that the caller has locked; the time is passed
 * in (microseconds, any epoch, 0 meaning never).  All zero is a closed breaker.
 *
 *	   CLOSED --failure_threshold failures in a row--> OPEN
 *	   OPEN --reset_timeout over, admit--> HALF_OPEN
 *	   HALF_OPEN --a trial is answered--> CLOSED
 *	   HALF_OPEN --a trial fails, or is abandoned--> OPEN
 *	   any --trip--> OPEN until reset;  any --reset--> CLOSED
 *
 * Only failures that count, the retryable ones, say that the dependency is
 * down.  Another failure neither adds to those in a row nor ends the row, and
 * as a trial's result it is an answer, as a success is.  Where several trials
 * are out, the first report decides, and the others come late.
 *
 * Every admission ends in reports: each granted event is reported once, by
 * success, failure, abandon or release.  A report that comes late, that is
 * for an epoch that is over, counts in the statistics and changes nothing
 * else.
 *
 * Source: M. Nygard, "Release It!", 2nd ed. (2018), section 5.2.
 */
#ifndef DBOPT_BREAKER_H
#define DBOPT_BREAKER_H

typedef enum DbOptBreakerState
{
	DBOPT_BREAKER_CLOSED,
	DBOPT_BREAKER_OPEN,
	DBOPT_BREAKER_HALF_OPEN
} DbOptBreakerState;

/*
 * A number below 1 counts as 1, a negative reset_timeout as 0.  What changes
 * here takes effect with the next failure, opening or admission; an open
 * breaker keeps its retry_at.
 */
typedef struct DbOptBreakerConfig
{
	int			failure_threshold;	/* failures in a row, >= 1 */
	int64		reset_timeout;	/* microseconds */
	int			half_open_trials;	/* events let through, >= 1 */
} DbOptBreakerConfig;

typedef struct DbOptBreaker
{
	DbOptBreakerState state;
	bool		tripped_by_hand;	/* OPEN until reset by hand */
	int			consecutive_failures;	/* those that count; kept while not
										 * CLOSED */
	int			trials;			/* events out on trial while HALF_OPEN */
	uint32		epoch;			/* moves at every change of state and every
								 * reset, so that a late report of an earlier
								 * epoch is known */
	int64		opened_at;		/* when it opened last, 0 when CLOSED */
	int64		retry_at;		/* OPEN: when trials start; PG_INT64_MAX when
								 * tripped by hand; else 0 */
	uint64		successes;
	uint64		failures;		/* of any kind, and abandoned trials */
	uint64		rejected;		/* how often admit granted nothing */
	uint64		tripped;		/* how often it opened */
} DbOptBreaker;

/*
 * What dbopt_breaker_admit() grants: up to "wanted" events may run now, as
 * part of the epoch given, which the reports hand back.  0: none, not before
 * retry_at, or in HALF_OPEN not before a trial that is out has ended.
 */
typedef struct DbOptAdmission
{
	int			granted;
	uint32		epoch;
	bool		trial;			/* granted events are HALF_OPEN trials */
} DbOptAdmission;

/* CLOSED, OPEN, HALF_OPEN */
extern const char *dbopt_breaker_state_name(DbOptBreakerState state);

/*
 * Asks for "wanted" events; to want none is no request and not a rejection.
 * If the clock has been set back to before the opening, reset_timeout starts
 * anew, so that the breaker does not stay open for as long as the jump.
 */
extern DbOptAdmission dbopt_breaker_admit(DbOptBreaker *breaker,
										  const DbOptBreakerConfig *config,
										  int wanted, int64 now);

/* "count" events have succeeded; 0 says nothing. */
extern void dbopt_breaker_success(DbOptBreaker *breaker,
								  const DbOptAdmission *admission,
								  int count, int64 now);

/* One event has failed; "counts" if it is worth a retry. */
extern void dbopt_breaker_failure(DbOptBreaker *breaker,
								  const DbOptBreakerConfig *config,
								  const DbOptAdmission *admission,
								  bool counts, int64 now);

/*
 * The session died with "unreported" events of the admission.  Trials count
 * as failed; of other events nothing is known, and nothing is counted.
 */
extern void dbopt_breaker_abandon(DbOptBreaker *breaker,
								  const DbOptBreakerConfig *config,
								  const DbOptAdmission *admission,
								  int unreported, int64 now);

/*
 * "unused" events of the admission were never started, because there was less
 * to do than wanted or on an orderly shutdown.  Gives their trials back.
 */
extern void dbopt_breaker_release(DbOptBreaker *breaker,
								  const DbOptAdmission *admission,
								  int unused);

/* By hand.  Statistics are kept. */
extern void dbopt_breaker_trip(DbOptBreaker *breaker, int64 now);
extern void dbopt_breaker_reset(DbOptBreaker *breaker);

/*
 * Is it certain that nothing would be granted before retry_at?  Where false,
 * dbopt_breaker_admit() has the answer.
 */
extern bool dbopt_breaker_blocks(const DbOptBreaker *breaker, int64 now);

#endif							/* DBOPT_BREAKER_H */
