/*
 * health.c
 *		How well a database's deliveries are, and when a change is worth
 *		telling.
 *
 * Every backend and worker may call this.
 */
#include "c.h"

#include "policy/health.h"

/* From here on a pool is no longer healthy. */
#define DEGRADED_UTILIZATION	75.0	/* per cent */
#define CRITICAL_UTILIZATION	90.0
#define DEGRADED_WAITING		1
#define CRITICAL_WAITING		6

/* Whoever starts it has tried several times by then; microseconds. */
#define CRITICAL_ABSENCE		INT64CONST(60000000)

#define CRITICAL_AGE			10	/* times what is degraded */

const char *
dbopt_health_name(DbOptHealth health)
{
	switch (health)
	{
		case DBOPT_HEALTHY:
			return "healthy";
		case DBOPT_DEGRADED:
			return "degraded";
		case DBOPT_CRITICAL:
			break;
	}
	return "critical";
}

DbOptHealth
dbopt_health_judge(double value, double degraded, double critical)
{
	if (value >= critical)
		return DBOPT_CRITICAL;
	return value >= degraded ? DBOPT_DEGRADED : DBOPT_HEALTHY;
}

DbOptHealth
dbopt_health_of_pool(double utilization, int waiting)
{
	DbOptHealth by_use = dbopt_health_judge(utilization, DEGRADED_UTILIZATION,
											CRITICAL_UTILIZATION);
	DbOptHealth by_queue = dbopt_health_judge(waiting, DEGRADED_WAITING,
											  CRITICAL_WAITING);

	return Max(by_use, by_queue);
}

DbOptHealth
dbopt_health_of_absence(int64 microseconds)
{
	return microseconds < CRITICAL_ABSENCE ? DBOPT_DEGRADED : DBOPT_CRITICAL;
}

DbOptHealth
dbopt_health_of_age(int64 microseconds, int degraded)
{
	return dbopt_health_judge((double) microseconds, 1000.0 * degraded,
							  1000.0 * degraded * CRITICAL_AGE);
}

/* Since when does this hold? */
static void
note_since(int64 *since, bool holds, int64 now)
{
	/* A clock that was set back must not make it last. */
	if (!holds)
		*since = 0;
	else if (*since == 0 || *since > now)
		*since = now;
}

bool
dbopt_alert_observe(DbOptAlert *alert, const DbOptAlertConfig *config,
					DbOptHealth health, int64 now)
{
	DbOptHealth before = alert->told;
	int			level;

	alert->observed = health;
	for (level = 0; level < DBOPT_HEALTH_LEVELS; level++)
	{
		note_since(&alert->worse_since[level], (int) health >= level, now);
		note_since(&alert->better_since[level], (int) health <= level, now);
	}

	for (level = DBOPT_CRITICAL; level > (int) before; level--)
		if (alert->worse_since[level] != 0 &&
			now - alert->worse_since[level] >= config->raise_after)
		{
			alert->told = (DbOptHealth) level;
			return true;
		}
	for (level = DBOPT_HEALTHY; level < (int) before; level++)
		if (alert->better_since[level] != 0 &&
			now - alert->better_since[level] >= config->clear_after)
		{
			alert->told = (DbOptHealth) level;
			return true;
		}
	return false;
}
