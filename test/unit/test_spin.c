/*
 * test_spin.c
 *		Unit tests of policy/spin.
 */
#include "c.h"

#include "policy/spin.h"
#include "tap.h"

/* Of so many waits that all end the same way, how many have begun awake? */
static int
count_awake(DbOptSpin *spin, int waits, bool in_time)
{
	int			awake = 0;

	for (int i = 0; i < waits; i++)
	{
		if (!dbopt_spin_worthwhile(spin))
			continue;
		awake++;
		dbopt_spin_note(spin, in_time);
	}
	return awake;
}

static void
test_successes(void)
{
	DbOptSpin	spin = {0};

	is_int(count_awake(&spin, 1000, true), 1000,
		   "while each is in time, all begin awake");
}

/* 1 + 1, 1 + 3, 1 + 7 ... waits between two that begin awake. */
static void
test_failures(void)
{
	DbOptSpin	spin = {0};

	is_int(count_awake(&spin, 1, false), 1, "the first begins awake");
	is_int(count_awake(&spin, 1, false), 0, "after it, one does not");
	is_int(count_awake(&spin, 1, false), 1, "the next does");
	is_int(count_awake(&spin, 3, false), 0, "after it, three do not");
	is_int(count_awake(&spin, 1, false), 1, "the next does");
	(void) count_awake(&spin, 1000, false);
	is_int(count_awake(&spin, 1000 * (DBOPT_SPIN_MAX_PAUSE + 1), false), 1000,
		   "in the long run, one of 64 does");
}

static void
test_recovery(void)
{
	DbOptSpin	spin = {0};

	(void) count_awake(&spin, 10000, false);
	ok(count_awake(&spin, DBOPT_SPIN_MAX_PAUSE + 1, true) > 0,
	   "after many in vain, one of the next 64 begins awake");
	is_int(count_awake(&spin, 1000, true), 1000,
		   "and when it is in time, all that follow do");
	(void) count_awake(&spin, 1, false);
	is_int(count_awake(&spin, 1, true), 0, "until one is in vain again");
}

int
main(void)
{
	test_successes();
	test_failures();
	test_recovery();
	return done_testing();
}
