/*
 * health.h
 *		How well a database's deliveries are, in three steps, and when a change
 *		is worth telling.
 *
 * Pure functions over what the caller has locked or copied; times are passed
 * in (microseconds, any epoch, 0 meaning never).
 */
#ifndef DBOPT_HEALTH_H
#define DBOPT_HEALTH_H

typedef enum DbOptHealth
{
	DBOPT_HEALTHY,
	DBOPT_DEGRADED,				/* works, but somebody should look at it */
	DBOPT_CRITICAL				/* something is not delivered */
} DbOptHealth;

#define DBOPT_HEALTH_LEVELS		3

/* healthy, degraded, critical */
extern const char *dbopt_health_name(DbOptHealth health);

/* CRITICAL from one bound on, DEGRADED from the other. */
extern DbOptHealth dbopt_health_judge(double value, double degraded,
									  double critical);

/* Of a pool: utilization in per cent, and how many wait for a session. */
extern DbOptHealth dbopt_health_of_pool(double utilization, int waiting);

/* Of a worker that is missing, and should come by itself. */
extern DbOptHealth dbopt_health_of_absence(int64 microseconds);

/*
 * Of what is old: degraded from so many milliseconds on, critical from ten
 * times as many.
 */
extern DbOptHealth dbopt_health_of_age(int64 microseconds, int degraded);

/*
 * Alerts with hysteresis.  A worse health is told when all that was observed
 * for raise_after was as bad, a better one when all was as good for
 * clear_after.  So something that flaps is told at most once each way, in any
 * time of raise_after and clear_after together.  All zero: healthy.
 */
typedef struct DbOptAlertConfig
{
	int64		raise_after;	/* microseconds */
	int64		clear_after;
} DbOptAlertConfig;

typedef struct DbOptAlert
{
	DbOptHealth told;
	DbOptHealth observed;		/* the last time */
	int64		worse_since[DBOPT_HEALTH_LEVELS];	/* at least this bad, 0:
													 * it is not */
	int64		better_since[DBOPT_HEALTH_LEVELS];	/* at most this bad, 0: it
													 * is not */
} DbOptAlert;

/* Takes an observation; true: told has changed. */
extern bool dbopt_alert_observe(DbOptAlert *alert,
								const DbOptAlertConfig *config,
								DbOptHealth health, int64 now);

#endif							/* DBOPT_HEALTH_H */
