/*
 * breaker.h
 *		The circuit breaker's state machine.
 *
 * Pure functions over a breaker that the caller has locked; the time is passed
 * in (microseconds, any epoch, 0 meaning never).  All zero is a closed breaker.
 *
 *	   CLOSED --failure_threshold failures in a row--> OPEN
 *	   OPEN --reset_timeout over, admit--> HALF_OPEN
 *	   HALF_OPEN --a trial succeeds--> CLOSED
 *	   HALF_OPEN --a trial fails, or is abandoned--> OPEN
 *	   any --trip--> OPEN until reset;  any --reset--> CLOSED
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
	int			consecutive_failures;
	int			trials;			/* events out on trial while HALF_OPEN */
	uint32		epoch;			/* moves at every change of state, so that a
								 * late report of an earlier epoch is known */
	int64		opened_at;		/* when it opened last, 0 when CLOSED */
	int64		retry_at;		/* OPEN: when trials start; PG_INT64_MAX when
								 * tripped by hand; else 0 */
	uint64		successes;
	uint64		failures;
	uint64		rejected;
	uint64		tripped;		/* how often it opened */
} DbOptBreaker;

/*
 * What dbopt_breaker_admit() grants: up to "wanted" events may run now, as
 * part of the epoch given, which dbopt_breaker_report() hands back.  0: none,
 * not before retry_at.
 */
typedef struct DbOptAdmission
{
	int			granted;
	uint32		epoch;
	bool		trial;			/* granted events are HALF_OPEN trials */
} DbOptAdmission;

extern const char *dbopt_breaker_state_name(DbOptBreakerState state);
extern DbOptAdmission dbopt_breaker_admit(DbOptBreaker *breaker,
										  const DbOptBreakerConfig *config,
										  int wanted, int64 now);
extern void dbopt_breaker_success(DbOptBreaker *breaker,
								  const DbOptAdmission *admission,
								  int count, int64 now);
extern void dbopt_breaker_failure(DbOptBreaker *breaker,
								  const DbOptBreakerConfig *config,
								  const DbOptAdmission *admission,
								  bool counts, int64 now);
extern void dbopt_breaker_abandon(DbOptBreaker *breaker,
								  const DbOptBreakerConfig *config,
								  const DbOptAdmission *admission,
								  int unreported, int64 now);
extern void dbopt_breaker_trip(DbOptBreaker *breaker, int64 now);
extern void dbopt_breaker_reset(DbOptBreaker *breaker);
extern bool dbopt_breaker_blocks(const DbOptBreaker *breaker, int64 now);

#endif							/* DBOPT_BREAKER_H */
