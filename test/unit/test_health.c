/*
 * test_health.c
 *		Unit tests of policy/health.
 */
#include "c.h"

#include <string.h>

#include "policy/health.h"
#include "tap.h"

static const DbOptAlertConfig config = {.raise_after = 10,.clear_after = 60};

static void
test_judging(void)
{
	ok(strcmp(dbopt_health_name(DBOPT_HEALTHY), "healthy") == 0, "healthy");
	ok(strcmp(dbopt_health_name(DBOPT_DEGRADED), "degraded") == 0, "degraded");
	ok(strcmp(dbopt_health_name(DBOPT_CRITICAL), "critical") == 0, "critical");
	is_int(dbopt_health_judge(9.9, 10, 20), DBOPT_HEALTHY, "below both bounds");
	is_int(dbopt_health_judge(10, 10, 20), DBOPT_DEGRADED, "at the first");
	is_int(dbopt_health_judge(20, 10, 20), DBOPT_CRITICAL, "at the second");
	is_int(dbopt_health_of_pool(74.9, 0), DBOPT_HEALTHY, "pool below 75%%");
	is_int(dbopt_health_of_pool(75, 0), DBOPT_DEGRADED, "pool at 75%%");
	is_int(dbopt_health_of_pool(90, 0), DBOPT_CRITICAL, "pool at 90%%");
	is_int(dbopt_health_of_pool(0, 1), DBOPT_DEGRADED, "somebody waits");
	is_int(dbopt_health_of_pool(0, 5), DBOPT_DEGRADED, "five wait");
	is_int(dbopt_health_of_pool(0, 6), DBOPT_CRITICAL, "more than five wait");
	is_int(dbopt_health_of_absence(0), DBOPT_DEGRADED, "missing just now");
	is_int(dbopt_health_of_absence(59999999), DBOPT_DEGRADED, "for less than a minute");
	is_int(dbopt_health_of_absence(60000000), DBOPT_CRITICAL, "for a minute");
	is_int(dbopt_health_of_age(1999999, 2000), DBOPT_HEALTHY, "not yet old");
	is_int(dbopt_health_of_age(2000000, 2000), DBOPT_DEGRADED, "as old as the setting");
	is_int(dbopt_health_of_age(19999999, 2000), DBOPT_DEGRADED, "nearly ten times");
	is_int(dbopt_health_of_age(20000000, 2000), DBOPT_CRITICAL, "ten times as old");
}

/* Observes; what is told afterwards, with 10 added when that is a change. */
static int
observe(DbOptAlert *alert, DbOptHealth health, int64 now)
{
	bool		changed = dbopt_alert_observe(alert, &config, health, now);

	return (int) alert->told + (changed ? 10 : 0);
}

static void
test_raising(void)
{
	DbOptAlert	alert = {0};

	is_int(observe(&alert, DBOPT_HEALTHY, 100), DBOPT_HEALTHY, "well from the start");
	is_int(observe(&alert, DBOPT_CRITICAL, 101), DBOPT_HEALTHY, "critical just now");
	is_int(observe(&alert, DBOPT_DEGRADED, 105), DBOPT_HEALTHY, "a little better");
	is_int(observe(&alert, DBOPT_CRITICAL, 110), DBOPT_HEALTHY, "for less than the time");
	is_int(observe(&alert, DBOPT_CRITICAL, 111), 10 + DBOPT_DEGRADED,
		   "degraded at least for the time");
	is_int(observe(&alert, DBOPT_CRITICAL, 119), DBOPT_DEGRADED, "told once");
	is_int(observe(&alert, DBOPT_CRITICAL, 120), 10 + DBOPT_CRITICAL,
		   "critical for the time");
	is_int(observe(&alert, DBOPT_CRITICAL, 1000), DBOPT_CRITICAL, "told once");
}

static void
test_clearing(void)
{
	DbOptAlert	alert = {.told = DBOPT_CRITICAL};

	is_int(observe(&alert, DBOPT_HEALTHY, 100), DBOPT_CRITICAL, "well just now");
	is_int(observe(&alert, DBOPT_HEALTHY, 159), DBOPT_CRITICAL, "not for long enough");
	is_int(observe(&alert, DBOPT_DEGRADED, 160), 10 + DBOPT_DEGRADED,
		   "better than critical for long enough");
	is_int(observe(&alert, DBOPT_HEALTHY, 161), DBOPT_DEGRADED, "well again");
	is_int(observe(&alert, DBOPT_HEALTHY, 220), DBOPT_DEGRADED, "not for long enough");
	is_int(observe(&alert, DBOPT_HEALTHY, 221), 10 + DBOPT_HEALTHY,
		   "well for long enough");
	is_int(observe(&alert, DBOPT_HEALTHY, 500), DBOPT_HEALTHY, "told once");
}

/* However it flaps, two changes are at least as far apart as promised. */
static void
test_flapping(void)
{
	DbOptAlert	alert = {0};
	int64		last_raise = -1000;
	int			changes = 0;
	bool		apart = true;

	for (int64 now = 1; now < 100000; now++)
	{
		DbOptHealth health = (now / 35) % 2 == 0 ? DBOPT_CRITICAL :
		DBOPT_HEALTHY;
		int			told = observe(&alert, health, now);

		if (told < 10)
			continue;
		changes++;
		if (told == 10 + DBOPT_CRITICAL)
		{
			apart = apart && now - last_raise >= 70;
			last_raise = now;
		}
	}
	is_int(changes, 1, "what is bad half of the time is told once");
	ok(apart, "raised no more often than promised");

	memset(&alert, 0, sizeof(alert));
	changes = 0;
	for (int64 now = 1; now < 100000; now++)
		if (observe(&alert, (now / 9) % 2 == 0 ? DBOPT_CRITICAL :
					DBOPT_HEALTHY, now) >= 10)
			changes++;
	is_int(changes, 0, "what never lasts is never told");
}

static void
test_clock(void)
{
	DbOptAlert	alert = {0};

	is_int(observe(&alert, DBOPT_CRITICAL, 1000), DBOPT_HEALTHY, "critical");
	is_int(observe(&alert, DBOPT_CRITICAL, 500), DBOPT_HEALTHY,
		   "the clock was set back");
	is_int(observe(&alert, DBOPT_CRITICAL, 510), 10 + DBOPT_CRITICAL,
		   "which delays it once");
}

int
main(void)
{
	test_judging();
	test_raising();
	test_clearing();
	test_flapping();
	test_clock();
	return done_testing();
}
