/*
 * test_breaker.c
 *		Unit tests of policy/breaker: its transitions, step by step.
 *
 * A scenario is a run of steps on a breaker that starts as all zero, with
 * failure_threshold 3, reset_timeout 100 and two trials.  After each step the
 * visible state is compared, and whether the epoch has moved; after the last
 * one, the statistics.
 */
#include "c.h"

#include "policy/breaker.h"
#include "tap.h"

#define C			DBOPT_BREAKER_CLOSED
#define O			DBOPT_BREAKER_OPEN
#define H			DBOPT_BREAKER_HALF_OPEN
#define BY_HAND		PG_INT64_MAX
#define NADMISSIONS	4

typedef enum Action
{
	START,
	STATISTICS,
	ADMIT,						/* arg: wanted; answer: granted */
	SUCCESS,					/* arg: count */
	FAILURE,					/* one that counts */
	ANSWER,						/* a failure that does not count */
	ABANDON,					/* arg: unreported */
	RELEASE,					/* arg: unused */
	TRIP,
	RESET,
	BLOCKS						/* answer */
} Action;

typedef struct Step
{
	Action		action;
	int			admission;		/* which of several to fill or report */
	int			arg;
	int64		now;
	int			answer;
	DbOptBreakerState state;	/* from here on: afterwards */
	int			in_a_row;
	int			trials;
	int64		opened_at;
	int64		retry_at;
	const char *name;			/* SCENARIO only */
	uint64		totals[4];		/* TOTALS only */
} Step;

#define SCENARIO(text)	{START, .name = text}

/* successes, failures, rejected, tripped of the scenario */
#define TOTALS(s, f, r, t)	{STATISTICS, .totals = {s, f, r, t}}

static const DbOptBreakerConfig config = {3, 100, 2};

/* opens at 10 by three failures of admission 0 */
#define OPENS_AT_10 \
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0}, \
	{FAILURE, 0, 0, 6, 0, C, 1, 0, 0, 0}, \
	{FAILURE, 0, 0, 7, 0, C, 2, 0, 0, 0}, \
	{FAILURE, 0, 0, 10, 0, O, 3, 0, 10, 110}

/* the same, and both trials are out at 110 as admission 1 */
#define TRIALS_AT_110 \
	OPENS_AT_10, \
	{ADMIT, 1, 5, 110, 2, H, 3, 2, 10, 0}

static const Step steps[] = {
	SCENARIO("closed lets all through"),
	{ADMIT, 0, 1, 1, 1, C, 0, 0, 0, 0},
	{ADMIT, 0, PG_INT32_MAX, 1, PG_INT32_MAX, C, 0, 0, 0, 0},
	{BLOCKS, 0, 0, 1, 0, C, 0, 0, 0, 0},
	TOTALS(0, 0, 0, 0),
	SCENARIO("wanting nothing is no request"),
	{ADMIT, 0, 0, 1, 0, C, 0, 0, 0, 0},
	{ADMIT, 0, -1, 1, 0, C, 0, 0, 0, 0},
	OPENS_AT_10,
	{ADMIT, 1, 0, 200, 0, O, 3, 0, 10, 110},
	TOTALS(0, 3, 0, 1),
	SCENARIO("success ends the row"),
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 6, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 7, 0, C, 2, 0, 0, 0},
	{SUCCESS, 0, 0, 8, 0, C, 2, 0, 0, 0},
	{SUCCESS, 0, -3, 8, 0, C, 2, 0, 0, 0},
	{SUCCESS, 0, 2, 8, 0, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 9, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 9, 0, C, 2, 0, 0, 0},
	TOTALS(2, 4, 0, 0),
	SCENARIO("a failure that does not count is passed over"),
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0},
	{ANSWER, 0, 0, 6, 0, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 6, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 7, 0, C, 2, 0, 0, 0},
	{ANSWER, 0, 0, 8, 0, C, 2, 0, 0, 0},
	{FAILURE, 0, 0, 9, 0, O, 3, 0, 9, 109},
	TOTALS(0, 5, 0, 1),
	SCENARIO("open refuses until retry_at"),
	OPENS_AT_10,
	{ADMIT, 1, 1, 10, 0, O, 3, 0, 10, 110},
	{BLOCKS, 0, 0, 109, 1, O, 3, 0, 10, 110},
	{ADMIT, 1, 1, 109, 0, O, 3, 0, 10, 110},
	{BLOCKS, 0, 0, 110, 0, O, 3, 0, 10, 110},
	{ADMIT, 1, 1, 110, 1, H, 3, 1, 10, 0},
	TOTALS(0, 3, 2, 1),
	SCENARIO("half open lets two through"),
	OPENS_AT_10,
	{ADMIT, 1, 1, 500, 1, H, 3, 1, 10, 0},
	{BLOCKS, 0, 0, 500, 0, H, 3, 1, 10, 0},
	{ADMIT, 2, 9, 501, 1, H, 3, 2, 10, 0},
	{ADMIT, 3, 1, 502, 0, H, 3, 2, 10, 0},
	{ADMIT, 3, 9, 999, 0, H, 3, 2, 10, 0},
	TOTALS(0, 3, 2, 1),
	SCENARIO("a trial's success closes"),
	TRIALS_AT_110,
	{SUCCESS, 1, 1, 120, 0, C, 0, 0, 0, 0},
	{ADMIT, 2, 7, 121, 7, C, 0, 0, 0, 0},
	{FAILURE, 2, 0, 122, 0, C, 1, 0, 0, 0},
	{FAILURE, 2, 0, 122, 0, C, 2, 0, 0, 0},
	TOTALS(1, 5, 0, 1),
	SCENARIO("a trial's failure opens again"),
	TRIALS_AT_110,
	{FAILURE, 1, 0, 120, 0, O, 4, 0, 120, 220},
	{ADMIT, 2, 1, 120, 0, O, 4, 0, 120, 220},
	{ADMIT, 2, 1, 219, 0, O, 4, 0, 120, 220},
	{ADMIT, 2, 1, 220, 1, H, 4, 1, 120, 0},
	TOTALS(0, 4, 2, 2),
	SCENARIO("a trial's other failure is an answer"),
	TRIALS_AT_110,
	{ANSWER, 1, 0, 120, 0, C, 0, 0, 0, 0},
	TOTALS(0, 4, 0, 1),
	SCENARIO("success first, the other trial is late"),
	TRIALS_AT_110,
	{SUCCESS, 1, 1, 120, 0, C, 0, 0, 0, 0},
	{FAILURE, 1, 0, 121, 0, C, 0, 0, 0, 0},
	{ABANDON, 1, 2, 122, 0, C, 0, 0, 0, 0},
	TOTALS(1, 6, 0, 1),
	SCENARIO("failure first, the other trial is late"),
	TRIALS_AT_110,
	{FAILURE, 1, 0, 120, 0, O, 4, 0, 120, 220},
	{SUCCESS, 1, 1, 121, 0, O, 4, 0, 120, 220},
	{FAILURE, 1, 0, 122, 0, O, 4, 0, 120, 220},
	{ANSWER, 1, 0, 123, 0, O, 4, 0, 120, 220},
	{ABANDON, 1, 2, 124, 0, O, 4, 0, 120, 220},
	{RELEASE, 1, 1, 124, 0, O, 4, 0, 120, 220},
	TOTALS(1, 8, 0, 2),
	SCENARIO("late trial in the next half open"),
	TRIALS_AT_110,
	{FAILURE, 1, 0, 120, 0, O, 4, 0, 120, 220},
	{ADMIT, 2, 2, 220, 2, H, 4, 2, 120, 0},
	{SUCCESS, 1, 1, 221, 0, H, 4, 2, 120, 0},
	{FAILURE, 1, 0, 221, 0, H, 4, 2, 120, 0},
	{ANSWER, 1, 0, 221, 0, H, 4, 2, 120, 0},
	{ABANDON, 1, 2, 221, 0, H, 4, 2, 120, 0},
	{RELEASE, 1, 2, 221, 0, H, 4, 2, 120, 0},
	{ADMIT, 3, 1, 222, 0, H, 4, 2, 120, 0},
	TOTALS(1, 8, 1, 2),
	SCENARIO("reports from before the opening"),
	OPENS_AT_10,
	{FAILURE, 0, 0, 11, 0, O, 3, 0, 10, 110},
	{SUCCESS, 0, 1, 12, 0, O, 3, 0, 10, 110},
	{ADMIT, 1, 1, 110, 1, H, 3, 1, 10, 0},
	{FAILURE, 0, 0, 111, 0, H, 3, 1, 10, 0},
	{SUCCESS, 0, 2, 112, 0, H, 3, 1, 10, 0},
	{ABANDON, 0, 2, 112, 0, H, 3, 1, 10, 0},
	TOTALS(3, 5, 0, 1),
	SCENARIO("reports from before the opening, closed again"),
	TRIALS_AT_110,
	{SUCCESS, 1, 1, 120, 0, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 121, 0, C, 0, 0, 0, 0},
	{ADMIT, 2, 1, 122, 1, C, 0, 0, 0, 0},
	{FAILURE, 2, 0, 123, 0, C, 1, 0, 0, 0},
	{SUCCESS, 0, 1, 124, 0, C, 1, 0, 0, 0},
	TOTALS(2, 5, 0, 1),
	SCENARIO("reports for what was refused"),
	OPENS_AT_10,
	{ADMIT, 1, 1, 20, 0, O, 3, 0, 10, 110},
	{FAILURE, 1, 0, 21, 0, O, 3, 0, 10, 110},
	{ADMIT, 2, 2, 110, 2, H, 3, 2, 10, 0},
	{ADMIT, 3, 1, 110, 0, H, 3, 2, 10, 0},
	{SUCCESS, 3, 1, 111, 0, H, 3, 2, 10, 0},
	{FAILURE, 3, 0, 111, 0, H, 3, 2, 10, 0},
	{ANSWER, 3, 0, 111, 0, H, 3, 2, 10, 0},
	{ABANDON, 3, 1, 111, 0, H, 3, 2, 10, 0},
	{RELEASE, 3, 1, 111, 0, H, 3, 2, 10, 0},
	TOTALS(1, 6, 2, 1),
	SCENARIO("an abandoned trial opens again"),
	TRIALS_AT_110,
	{ABANDON, 1, 0, 115, 0, H, 3, 2, 10, 0},
	{ABANDON, 1, -1, 115, 0, H, 3, 2, 10, 0},
	{ABANDON, 1, 2, 120, 0, O, 5, 0, 120, 220},
	{ADMIT, 2, 1, 219, 0, O, 5, 0, 120, 220},
	{ADMIT, 2, 1, 220, 1, H, 5, 1, 120, 0},
	TOTALS(0, 5, 1, 2),
	SCENARIO("abandoned or released while closed says nothing"),
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 6, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 7, 0, C, 2, 0, 0, 0},
	{ABANDON, 0, 3, 8, 0, C, 2, 0, 0, 0},
	{RELEASE, 0, 4, 8, 0, C, 2, 0, 0, 0},
	TOTALS(0, 2, 0, 0),
	SCENARIO("released trials are free again"),
	TRIALS_AT_110,
	{RELEASE, 1, 0, 111, 0, H, 3, 2, 10, 0},
	{RELEASE, 1, -1, 111, 0, H, 3, 2, 10, 0},
	{RELEASE, 1, 1, 111, 0, H, 3, 1, 10, 0},
	{ADMIT, 2, 2, 112, 1, H, 3, 2, 10, 0},
	{ADMIT, 3, 2, 112, 0, H, 3, 2, 10, 0},
	{RELEASE, 2, 1, 113, 0, H, 3, 1, 10, 0},
	{RELEASE, 1, 5, 113, 0, H, 3, 0, 10, 0},
	{ADMIT, 3, 2, 114, 2, H, 3, 2, 10, 0},
	TOTALS(0, 3, 1, 1),
	SCENARIO("clock set back while open"),
	{ADMIT, 0, 9, 5000, 9, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 5000, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 5000, 0, C, 2, 0, 0, 0},
	{FAILURE, 0, 0, 5000, 0, O, 3, 0, 5000, 5100},
	{BLOCKS, 0, 0, 5000, 1, O, 3, 0, 5000, 5100},
	{BLOCKS, 0, 0, 4999, 0, O, 3, 0, 5000, 5100},
	{BLOCKS, 0, 0, 7, 0, O, 3, 0, 5000, 5100},
	{ADMIT, 1, 0, 7, 0, O, 3, 0, 5000, 5100},
	{ADMIT, 1, 1, 7, 0, O, 3, 0, 7, 107},
	{BLOCKS, 0, 0, 106, 1, O, 3, 0, 7, 107},
	{ADMIT, 1, 1, 106, 0, O, 3, 0, 7, 107},
	{ADMIT, 1, 1, -50, 0, O, 3, 0, -50, 50},
	{ADMIT, 1, 1, 50, 1, H, 3, 1, -50, 0},
	TOTALS(0, 3, 3, 1),
	SCENARIO("clock set back while half open"),
	TRIALS_AT_110,
	{FAILURE, 1, 0, 3, 0, O, 4, 0, 3, 103},
	{ADMIT, 2, 1, 102, 0, O, 4, 0, 3, 103},
	{ADMIT, 2, 1, 103, 1, H, 4, 1, 3, 0},
	{SUCCESS, 2, 1, 1, 0, C, 0, 0, 0, 0},
	TOTALS(1, 4, 1, 2),
	SCENARIO("tripped by hand until reset"),
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0},
	{TRIP, 0, 0, 6, 0, O, 0, 0, 6, BY_HAND},
	{FAILURE, 0, 0, 7, 0, O, 0, 0, 6, BY_HAND},
	{SUCCESS, 0, 1, 7, 0, O, 0, 0, 6, BY_HAND},
	{ADMIT, 1, 1, PG_INT64_MAX, 0, O, 0, 0, 6, BY_HAND},
	{BLOCKS, 0, 0, PG_INT64_MAX, 1, O, 0, 0, 6, BY_HAND},
	{BLOCKS, 0, 0, 1, 1, O, 0, 0, 6, BY_HAND},
	{ADMIT, 1, 1, 1, 0, O, 0, 0, 6, BY_HAND},
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	{ADMIT, 1, 1, 8, 1, C, 0, 0, 0, 0},
	TOTALS(1, 1, 2, 1),
	SCENARIO("tripped by hand while open"),
	OPENS_AT_10,
	{TRIP, 0, 0, 20, 0, O, 3, 0, 10, BY_HAND},
	{TRIP, 0, 0, 30, 0, O, 3, 0, 10, BY_HAND},
	{ADMIT, 1, 1, 9999, 0, O, 3, 0, 10, BY_HAND},
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	TOTALS(0, 3, 1, 1),
	SCENARIO("tripped by hand while half open"),
	TRIALS_AT_110,
	{TRIP, 0, 0, 115, 0, O, 3, 0, 115, BY_HAND},
	{SUCCESS, 1, 1, 116, 0, O, 3, 0, 115, BY_HAND},
	{ABANDON, 1, 2, 117, 0, O, 3, 0, 115, BY_HAND},
	TOTALS(1, 5, 0, 2),
	SCENARIO("after a reset it opens by itself"),
	{TRIP, 0, 0, 2, 0, O, 0, 0, 2, BY_HAND},
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	OPENS_AT_10,
	{BLOCKS, 0, 0, 110, 0, O, 3, 0, 10, 110},
	{ADMIT, 1, 1, 110, 1, H, 3, 1, 10, 0},
	TOTALS(0, 3, 0, 2),
	SCENARIO("reset while open"),
	OPENS_AT_10,
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 11, 0, C, 0, 0, 0, 0},
	{ADMIT, 1, 4, 11, 4, C, 0, 0, 0, 0},
	TOTALS(0, 4, 0, 1),
	SCENARIO("reset while half open"),
	TRIALS_AT_110,
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	{FAILURE, 1, 0, 111, 0, C, 0, 0, 0, 0},
	TOTALS(0, 4, 0, 1),
	SCENARIO("reset while closed forgets what is running"),
	{ADMIT, 0, 9, 5, 9, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 6, 0, C, 1, 0, 0, 0},
	{FAILURE, 0, 0, 6, 0, C, 2, 0, 0, 0},
	{RESET, 0, 0, 0, 0, C, 0, 0, 0, 0},
	{FAILURE, 0, 0, 7, 0, C, 0, 0, 0, 0},
	{ADMIT, 1, 9, 8, 9, C, 0, 0, 0, 0},
	{FAILURE, 1, 0, 9, 0, C, 1, 0, 0, 0},
	TOTALS(0, 4, 0, 0)
};

static int
perform(DbOptBreaker *breaker, DbOptAdmission *admissions, const Step *step)
{
	DbOptAdmission *admission = &admissions[step->admission];

	switch (step->action)
	{
		case START:
		case STATISTICS:
			break;
		case ADMIT:
			*admission = dbopt_breaker_admit(breaker, &config, step->arg,
											 step->now);
			return admission->granted;
		case SUCCESS:
			dbopt_breaker_success(breaker, admission, step->arg, step->now);
			break;
		case FAILURE:
		case ANSWER:
			dbopt_breaker_failure(breaker, &config, admission,
								  step->action == FAILURE, step->now);
			break;
		case ABANDON:
			dbopt_breaker_abandon(breaker, &config, admission, step->arg,
								  step->now);
			break;
		case RELEASE:
			dbopt_breaker_release(breaker, admission, step->arg);
			break;
		case TRIP:
			dbopt_breaker_trip(breaker, step->now);
			break;
		case RESET:
			dbopt_breaker_reset(breaker);
			break;
		case BLOCKS:
			return dbopt_breaker_blocks(breaker, step->now);
	}
	return 0;
}

static bool
as_expected(const DbOptBreaker *before, const DbOptBreaker *after,
			const Step *step, const DbOptAdmission *admission)
{
	uint32		epoch = before->epoch;

	if (before->state != after->state || step->action == RESET)
		epoch++;
	if (step->action == ADMIT &&
		(admission->epoch != epoch ||
		 admission->trial != (after->state == H && admission->granted > 0)))
		return false;
	return after->epoch == epoch &&
		after->state == step->state &&
		after->consecutive_failures == step->in_a_row &&
		after->trials == step->trials &&
		after->opened_at == step->opened_at &&
		after->retry_at == step->retry_at &&
		after->tripped_by_hand == (step->retry_at == BY_HAND);
}

static void
check_totals(const DbOptBreaker *breaker, const uint64 *totals,
			 const char *scenario)
{
	is_int(breaker->successes, totals[0], "%s: successes", scenario);
	is_int(breaker->failures, totals[1], "%s: failures", scenario);
	is_int(breaker->rejected, totals[2], "%s: rejected", scenario);
	is_int(breaker->tripped, totals[3], "%s: tripped", scenario);
}

static void
check_step(DbOptBreaker *breaker, DbOptAdmission *admissions,
		   const Step *step, const char *scenario, int number)
{
	DbOptBreaker before = *breaker;
	int			answer = perform(breaker, admissions, step);
	bool		expected = as_expected(&before, breaker, step,
									   &admissions[step->admission]);

	ok(answer == step->answer && expected,
	   "%s: step %d, answer %d, %s", scenario, number, answer,
	   dbopt_breaker_state_name(breaker->state));
}

int
main(void)
{
	DbOptBreaker breaker;
	DbOptAdmission admissions[NADMISSIONS];
	const char *scenario = NULL;
	int			number = 0;

	for (size_t i = 0; i < lengthof(steps); i++)
	{
		const Step *step = &steps[i];

		if (step->action == START)
		{
			memset(&breaker, 0, sizeof(breaker));
			memset(admissions, 0, sizeof(admissions));
			scenario = step->name;
			number = 0;
		}
		else if (step->action == STATISTICS)
			check_totals(&breaker, step->totals, scenario);
		else
			check_step(&breaker, admissions, step, scenario, ++number);
	}
	return done_testing();
}
