/*
 * test_breaker_log.c
 *		Unit tests of policy/breaker_log.
 */
#include "c.h"

#include "policy/breaker_log.h"
#include "tap.h"

static DbOptBreakerLog history;
static DbOptBreaker breaker;

static void
change_to(DbOptBreakerState state, bool by_hand, int64 now)
{
	DbOptBreaker before = breaker;

	breaker.state = state;
	breaker.tripped_by_hand = by_hand;
	if (dbopt_breaker_changed(&before, &breaker))
		dbopt_breaker_log_add(&history, &before, &breaker, now);
}

static void
start_anew(void)
{
	memset(&history, 0, sizeof(history));
	memset(&breaker, 0, sizeof(breaker));
}

static void
entry_is(int number, int64 at, DbOptBreakerState before,
		 DbOptBreakerState after, uint32 failed_trials, const char *name)
{
	const DbOptBreakerChange *entry = &history.changes[number];

	ok(number < history.count && entry->at == at && entry->before == before &&
	   entry->after == after && entry->failed_trials == failed_trials,
	   "%s", name);
}

/* Hours of it are two entries. */
static void
test_outage(void)
{
	bool		in_between = true;

	start_anew();
	change_to(DBOPT_BREAKER_CLOSED, false, 1);
	is_int(history.count, 0, "no change, no entry");
	change_to(DBOPT_BREAKER_OPEN, false, 10);
	for (int trial = 0; trial < 100; trial++)
	{
		change_to(DBOPT_BREAKER_HALF_OPEN, false, 20 + 2 * trial);
		in_between = in_between && history.count == 2;
		change_to(DBOPT_BREAKER_OPEN, false, 21 + 2 * trial);
	}
	ok(in_between, "a trial that is out has an entry");
	is_int(history.count, 1, "failed trials take no room");
	entry_is(0, 10, DBOPT_BREAKER_CLOSED, DBOPT_BREAKER_OPEN, 100,
			 "the outage since its beginning");
	change_to(DBOPT_BREAKER_HALF_OPEN, false, 500);
	change_to(DBOPT_BREAKER_CLOSED, false, 501);
	is_int(history.count, 3, "its end");
	entry_is(1, 500, DBOPT_BREAKER_OPEN, DBOPT_BREAKER_HALF_OPEN, 0,
			 "the trial that succeeded");
	entry_is(2, 501, DBOPT_BREAKER_HALF_OPEN, DBOPT_BREAKER_CLOSED, 0,
			 "closed again");
}

static void
test_by_hand(void)
{
	start_anew();
	change_to(DBOPT_BREAKER_OPEN, false, 1);
	change_to(DBOPT_BREAKER_OPEN, true, 2);
	change_to(DBOPT_BREAKER_OPEN, true, 3);
	is_int(history.count, 2, "an open breaker that is opened by hand");
	ok(!history.changes[0].by_hand && history.changes[1].by_hand,
	   "... tells which is which");
	change_to(DBOPT_BREAKER_CLOSED, false, 4);
	change_to(DBOPT_BREAKER_OPEN, false, 5);
	change_to(DBOPT_BREAKER_HALF_OPEN, false, 6);
	change_to(DBOPT_BREAKER_OPEN, true, 7);
	is_int(history.count, 6, "on trial, opened by hand: no failed trial");
	is_int(history.changes[3].failed_trials, 0, "... so none is counted");
}

/* The oldest go. */
static void
test_full(void)
{
	start_anew();
	for (int n = 0; n < 50; n++)
		change_to(n % 2 == 0 ? DBOPT_BREAKER_OPEN : DBOPT_BREAKER_CLOSED,
				  false, n);
	is_int(history.count, DBOPT_BREAKER_CHANGES, "as many as there is room");
	entry_is(0, 50 - DBOPT_BREAKER_CHANGES, DBOPT_BREAKER_CLOSED,
			 DBOPT_BREAKER_OPEN, 0, "the oldest");
	entry_is(DBOPT_BREAKER_CHANGES - 1, 49, DBOPT_BREAKER_OPEN,
			 DBOPT_BREAKER_CLOSED, 0, "the newest");

	change_to(DBOPT_BREAKER_OPEN, false, 60);
	change_to(DBOPT_BREAKER_HALF_OPEN, false, 61);
	change_to(DBOPT_BREAKER_OPEN, false, 62);
	entry_is(DBOPT_BREAKER_CHANGES - 2, 60, DBOPT_BREAKER_CLOSED,
			 DBOPT_BREAKER_OPEN, 1, "a failed trial in a full log");
	is_int(history.count, DBOPT_BREAKER_CHANGES - 1, "... gives its entry back");
}

/* A log that begins on trial: what was open before is not known. */
static void
test_begins_on_trial(void)
{
	start_anew();
	breaker.state = DBOPT_BREAKER_OPEN;
	change_to(DBOPT_BREAKER_HALF_OPEN, false, 5);
	change_to(DBOPT_BREAKER_OPEN, false, 6);
	is_int(history.count, 2, "both are written down");
	entry_is(0, 5, DBOPT_BREAKER_OPEN, DBOPT_BREAKER_HALF_OPEN, 0,
			 "with what was before");
}

int
main(void)
{
	test_outage();
	test_by_hand();
	test_full();
	test_begins_on_trial();
	return done_testing();
}
