/*
 * test_minutes.c
 *		Unit tests of policy/minutes: the rings wrap as they should.
 */
#include "c.h"

#include "policy/minutes.h"
#include "tap.h"

#define MINUTE	INT64CONST(60000000)
#define LAST	(DBOPT_MINUTES - 1)

static DbOptHandlerMinute read_out[DBOPT_MINUTES];
static DbOptDatabaseMinute database_out[DBOPT_MINUTES];

static int64
sum_of_successes(const DbOptHandlerMinutes *ring, int64 now)
{
	int64		sum = 0;

	dbopt_handler_minutes_read(ring, now, read_out);
	for (int i = 0; i < DBOPT_MINUTES; i++)
		sum += read_out[i].successes;
	return sum;
}

/* A minute is its own from its first microsecond to its last. */
static void
test_minute(int64 start, const char *name)
{
	DbOptHandlerMinutes ring = {0};

	dbopt_handler_minutes_add(&ring, start, 1, 0);
	dbopt_handler_minutes_add(&ring, start + MINUTE - 1, 2, 5);
	dbopt_handler_minutes_add(&ring, start + MINUTE, 4, 0);
	dbopt_handler_minutes_read(&ring, start + MINUTE, read_out);
	is_int(read_out[LAST].successes, 4, "%s: the present minute", name);
	is_int(read_out[LAST - 1].successes, 3, "%s: the one before", name);
	is_int(read_out[LAST - 1].failures, 5, "%s: its failures", name);
	is_int(read_out[0].successes, 0, "%s: the oldest", name);
}

/* Minute n counts n events; whatever is older than an hour is gone. */
static void
test_wrap(int64 start)
{
	DbOptHandlerMinutes ring = {0};
	bool		exact = true;

	for (int n = 1; n <= 3 * DBOPT_MINUTES + 7; n++)
	{
		dbopt_handler_minutes_add(&ring, start + n * MINUTE, n, 0);
		dbopt_handler_minutes_read(&ring, start + n * MINUTE, read_out);
		for (int i = 0; i < DBOPT_MINUTES; i++)
			exact = exact &&
				read_out[i].successes == (uint32) Max(n - LAST + i, 0);
	}
	ok(exact, "each minute of each hour, from %lld on",
	   (long long) (start / MINUTE));
}

/* Reading does not change the ring, and needs no counting to move on. */
static void
test_gaps(void)
{
	DbOptHandlerMinutes ring = {0};

	dbopt_handler_minutes_add(&ring, 1000 * MINUTE, 7, 0);
	is_int(sum_of_successes(&ring, 1059 * MINUTE), 7, "in the hour");
	is_int(read_out[0].successes, 7, "as the oldest minute");
	is_int(sum_of_successes(&ring, 1060 * MINUTE), 0, "past the hour");
	dbopt_handler_minutes_add(&ring, 1030 * MINUTE, 3, 0);
	is_int(sum_of_successes(&ring, 1030 * MINUTE), 10,
		   "the minutes in between are empty");
	dbopt_handler_minutes_add(&ring, 1061 * MINUTE, 1, 0);
	is_int(sum_of_successes(&ring, 1061 * MINUTE), 4,
		   "the slot of what is over is cleared");
	dbopt_handler_minutes_add(&ring, 5000 * MINUTE, 2, 0);
	is_int(sum_of_successes(&ring, 5000 * MINUTE), 2, "after a long pause");
}

static void
test_clock_set_back(void)
{
	DbOptHandlerMinutes ring = {0};

	dbopt_handler_minutes_add(&ring, 1000 * MINUTE, 1, 0);
	dbopt_handler_minutes_add(&ring, 1010 * MINUTE, 2, 0);
	dbopt_handler_minutes_add(&ring, 1000 * MINUTE, 4, 0);
	is_int(sum_of_successes(&ring, 1000 * MINUTE), 5,
		   "a little: the minute goes on");
	is_int(sum_of_successes(&ring, 1010 * MINUTE), 7,
		   "... and nothing is lost");
	dbopt_handler_minutes_add(&ring, 950 * MINUTE, 8, 0);
	is_int(sum_of_successes(&ring, 950 * MINUTE), 8,
		   "by an hour: it starts anew");
	is_int(sum_of_successes(&ring, 1009 * MINUTE), 8,
		   "... and what is ahead is gone");
}

static void
test_database(void)
{
	DbOptHistogram times = {{0}};
	DbOptMinuteCounts counts = {10, 3, 1, &times};
	DbOptDatabaseMinutes ring = {0};

	times.buckets[5] = 12;
	times.buckets[63] = 1;
	for (int n = 0; n < 200; n++)
		dbopt_database_minutes_add(&ring, n * MINUTE, &counts);
	dbopt_database_minutes_add(&ring, 199 * MINUTE, &counts);
	dbopt_database_minutes_read(&ring, 199 * MINUTE, database_out);
	is_int(database_out[LAST].successes, 20, "successes add up");
	is_int(database_out[LAST].failures, 6, "failures");
	is_int(database_out[LAST].dead_letters, 2, "dead letters");
	is_int(database_out[LAST].times[5], 24, "times");
	is_int(database_out[LAST].times[63], 2, "times of the last bucket");
	is_int(database_out[0].successes, 10, "an old minute is not added to");
	is_int(database_out[0].times[5], 12, "nor are its times");
}

/* A level lasts until the next one; a minute shows the highest. */
static void
test_level(void)
{
	DbOptHistogram times = {{0}};
	DbOptMinuteCounts counts = {1, 0, 0, &times};
	DbOptDatabaseMinutes ring = {0};

	dbopt_database_minutes_level(&ring, 1000 * MINUTE, 5, 2);
	dbopt_database_minutes_level(&ring, 1000 * MINUTE, 3, 0);
	dbopt_database_minutes_add(&ring, 1002 * MINUTE, &counts);
	dbopt_database_minutes_level(&ring, 1003 * MINUTE, 1, 0);
	dbopt_database_minutes_read(&ring, 1005 * MINUTE, database_out);
	is_int(database_out[LAST - 6].used, 0, "before: none");
	is_int(database_out[LAST - 5].used, 5, "the highest");
	is_int(database_out[LAST - 5].waiting, 2, "the most that waited");
	is_int(database_out[LAST - 4].used, 3, "goes on over a minute without news");
	is_int(database_out[LAST - 3].used, 3, "... and one that counts");
	is_int(database_out[LAST - 3].successes, 1, "... which it does");
	is_int(database_out[LAST - 2].used, 3,
		   "a minute begins with the level before");
	is_int(database_out[LAST - 1].used, 1, "nothing since then: as it was");
	is_int(database_out[LAST].used, 1, "the present minute, too");
	is_int(database_out[LAST].waiting, 0, "nothing waits");
	dbopt_database_minutes_read(&ring, 2000 * MINUTE, database_out);
	is_int(database_out[0].used, 1, "still so long afterwards");
	dbopt_database_minutes_peak(&ring, 2000 * MINUTE, 4);
	dbopt_database_minutes_peak(&ring, 2000 * MINUTE, 2);
	dbopt_database_minutes_read(&ring, 2001 * MINUTE, database_out);
	is_int(database_out[LAST - 1].used, 4, "for a moment there were more");
	is_int(database_out[LAST].used, 1, "... and the level is as before");
}

int
main(void)
{
	test_minute(28000000 * MINUTE, "today");
	test_minute(0, "the epoch");
	test_minute(-MINUTE, "just before the epoch");
	test_minute(-5 * DBOPT_MINUTES * MINUTE, "long before it");
	test_wrap(28000000 * MINUTE);
	test_wrap(-100 * MINUTE);
	test_gaps();
	test_clock_set_back();
	test_database();
	test_level();
	return done_testing();
}
