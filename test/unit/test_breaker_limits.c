/*
 * test_breaker_limits.c
 *		Unit tests of policy/breaker: extreme values, and what must hold on
 *		any way through its states.
 */
#include "c.h"

#include "policy/breaker.h"
#include "tap.h"

#define WALK_STEPS	200000
#define NSESSIONS	4

static const DbOptBreakerConfig config = {3, 100, 2};

static void
test_names(void)
{
	ok(strcmp(dbopt_breaker_state_name(DBOPT_BREAKER_CLOSED), "CLOSED") == 0,
	   "name of CLOSED");
	ok(strcmp(dbopt_breaker_state_name(DBOPT_BREAKER_OPEN), "OPEN") == 0,
	   "name of OPEN");
	ok(strcmp(dbopt_breaker_state_name(DBOPT_BREAKER_HALF_OPEN),
			  "HALF_OPEN") == 0, "name of HALF_OPEN");
}

static void
test_config_below_range(void)
{
	DbOptBreakerConfig zero = {0, -5, 0};
	DbOptBreaker breaker = {0};
	DbOptAdmission admission = dbopt_breaker_admit(&breaker, &zero, 1, 50);

	ok(admission.granted == 1, "all zero: closed");
	dbopt_breaker_failure(&breaker, &zero, &admission, true, 50);
	ok(breaker.state == DBOPT_BREAKER_OPEN, "threshold 0 counts as 1");
	is_int(breaker.retry_at, 50, "reset_timeout below 0 counts as 0");
	admission = dbopt_breaker_admit(&breaker, &zero, 5, 50);
	is_int(admission.granted, 1, "no half_open_trials count as 1");
}

static void
test_fewer_trials_meanwhile(void)
{
	DbOptBreakerConfig one = {3, 100, 1};
	DbOptBreaker breaker = {.state = DBOPT_BREAKER_OPEN,.retry_at = 100};
	DbOptAdmission first = dbopt_breaker_admit(&breaker, &config, 2, 100);
	DbOptAdmission second = dbopt_breaker_admit(&breaker, &one, 1, 101);

	is_int(second.granted, 0, "limit below the trials out: none granted");
	is_int(breaker.trials, 2, "limit below the trials out: both still out");
	dbopt_breaker_release(&breaker, &first, 1);
	second = dbopt_breaker_admit(&breaker, &one, 1, 102);
	is_int(second.granted, 0, "limit equal to the trials out: none granted");
	dbopt_breaker_release(&breaker, &first, 1);
	second = dbopt_breaker_admit(&breaker, &one, 9, 103);
	is_int(second.granted, 1, "all trials back: one granted");
}

static void
test_saturation(void)
{
	DbOptBreakerConfig forever = {1, PG_INT64_MAX, 1};
	DbOptBreaker breaker = {.consecutive_failures = PG_INT32_MAX};
	DbOptAdmission admission = dbopt_breaker_admit(&breaker, &forever, 1, 50);

	dbopt_breaker_failure(&breaker, &forever, &admission, true, 50);
	is_int(breaker.consecutive_failures, PG_INT32_MAX,
		   "failures in a row saturate");
	is_int(breaker.retry_at, PG_INT64_MAX, "retry_at saturates");
	ok(breaker.state == DBOPT_BREAKER_OPEN && !breaker.tripped_by_hand,
	   "and is not taken for a trip by hand");
	admission = dbopt_breaker_admit(&breaker, &forever, 1, 49);
	ok(breaker.opened_at == 49 && breaker.retry_at == PG_INT64_MAX,
	   "clock set back: saturates again");
	ok(dbopt_breaker_blocks(&breaker, PG_INT64_MAX - 1),
	   "blocked to the end of time");

	breaker.retry_at = 60;
	admission = dbopt_breaker_admit(&breaker, &forever, 1, 60);
	dbopt_breaker_abandon(&breaker, &forever, &admission, PG_INT32_MAX, 61);
	is_int(breaker.consecutive_failures, PG_INT32_MAX,
		   "abandoned trials saturate");
	is_int(breaker.failures, 1 + (int64) PG_INT32_MAX, "and all are counted");
}

static void
test_epoch_wraps(void)
{
	DbOptBreaker breaker = {.epoch = PG_UINT32_MAX};
	DbOptAdmission admission = dbopt_breaker_admit(&breaker, &config, 1, 50);

	dbopt_breaker_trip(&breaker, 51);
	is_int(breaker.epoch, 0, "the epoch wraps around");
	dbopt_breaker_reset(&breaker);
	dbopt_breaker_failure(&breaker, &config, &admission, true, 52);
	is_int(breaker.consecutive_failures, 0, "and late is still late");
}

/*
 * A closed breaker never handed out the trial that is reported here.
 */
static void
test_made_up_trial(void)
{
	DbOptBreaker breaker = {.consecutive_failures = 2};
	DbOptAdmission admission = {.granted = 1,.trial = true};

	dbopt_breaker_failure(&breaker, &config, &admission, true, 50);
	dbopt_breaker_failure(&breaker, &config, &admission, false, 50);
	dbopt_breaker_abandon(&breaker, &config, &admission, 1, 50);
	dbopt_breaker_success(&breaker, &admission, 1, 50);
	dbopt_breaker_release(&breaker, &admission, 1);
	ok(breaker.state == DBOPT_BREAKER_CLOSED && breaker.epoch == 0 &&
	   breaker.trials == 0 && breaker.consecutive_failures == 2,
	   "a made-up trial changes nothing");
	ok(breaker.failures == 3 && breaker.successes == 1,
	   "a made-up trial is counted");
}

/*
 * One session of a random walk: what it has been granted and not reported.
 */
typedef struct Session
{
	DbOptAdmission admission;
	int			out;
} Session;

static void
random_report(DbOptBreaker *breaker, Session *session, int draw, int64 now)
{
	const DbOptAdmission *admission = &session->admission;

	switch (draw % 5)
	{
		case 0:
			dbopt_breaker_success(breaker, admission, 1, now);
			session->out -= 1;
			break;
		case 1:
			dbopt_breaker_failure(breaker, &config, admission, true, now);
			session->out -= 1;
			break;
		case 2:
			dbopt_breaker_failure(breaker, &config, admission, false, now);
			session->out -= 1;
			break;
		case 3:
			dbopt_breaker_abandon(breaker, &config, admission, session->out,
								  now);
			session->out = 0;
			break;
		default:
			dbopt_breaker_release(breaker, admission, session->out);
			session->out = 0;
			break;
	}
}

/*
 * Trials of the present epoch that the sessions still hold.
 */
static int
trials_out(const DbOptBreaker *breaker, const Session *sessions)
{
	int			out = 0;

	for (int i = 0; i < NSESSIONS; i++)
	{
		if (sessions[i].admission.trial &&
			sessions[i].admission.epoch == breaker->epoch)
			out += sessions[i].out;
	}
	return out;
}

static bool
is_consistent(const DbOptBreaker *breaker)
{
	switch (breaker->state)
	{
		case DBOPT_BREAKER_CLOSED:
			return breaker->consecutive_failures < config.failure_threshold &&
				breaker->trials == 0 && breaker->opened_at == 0 &&
				breaker->retry_at == 0 && !breaker->tripped_by_hand;
		case DBOPT_BREAKER_OPEN:
			return breaker->trials == 0 && breaker->retry_at ==
				(breaker->tripped_by_hand ? PG_INT64_MAX :
				 breaker->opened_at + config.reset_timeout);
		case DBOPT_BREAKER_HALF_OPEN:
			return breaker->trials <= config.half_open_trials &&
				breaker->retry_at == 0 && !breaker->tripped_by_hand;
	}
	return false;
}

/*
 * Let all that is out come back, and reset_timeout pass, from here: is
 * something granted then?  Works on copies.
 */
static bool
recovers(DbOptBreaker breaker, const Session *sessions, int64 now)
{
	for (int i = 0; i < NSESSIONS; i++)
		dbopt_breaker_release(&breaker, &sessions[i].admission,
							  sessions[i].out);
	if (dbopt_breaker_admit(&breaker, &config, 1, now).granted > 0)
		return true;
	now += config.reset_timeout;
	return !dbopt_breaker_blocks(&breaker, now) &&
		dbopt_breaker_admit(&breaker, &config, 1, now).granted > 0;
}

/*
 * Sessions ask and report at random, while the clock jumps and someone trips
 * and resets.
 */
static void
test_random_walk(void)
{
	DbOptBreaker breaker = {0};
	Session		sessions[NSESSIONS] = {{{0}, 0}};
	uint64		seed = 15;
	int64		now = 1000000;
	int			visits[3] = {0};
	bool		consistent = true;
	bool		counted = true;
	bool		alive = true;

	for (int i = 0; i < WALK_STEPS; i++)
	{
		int			draw = (int) (test_random(&seed) >> 40);
		Session    *session = &sessions[draw % NSESSIONS];

		draw /= NSESSIONS;
		now += draw % 500 == 0 ? -5000 : draw % 20;
		if (draw % 1009 == 0)
			dbopt_breaker_trip(&breaker, now);
		else if (draw % 211 == 0)
			dbopt_breaker_reset(&breaker);
		else if (session->out > 0)
			random_report(&breaker, session, draw, now);
		else
		{
			session->admission = dbopt_breaker_admit(&breaker, &config,
													 draw % 4, now);
			session->out = session->admission.granted;
		}
		visits[breaker.state]++;
		consistent = consistent && is_consistent(&breaker);
		counted = counted && breaker.trials == trials_out(&breaker, sessions);
		alive = alive && (breaker.tripped_by_hand ||
						  recovers(breaker, sessions, now));
	}
	for (int i = 0; i < 3; i++)
		ok(visits[i] > WALK_STEPS / 100, "walk: stays in %s",
		   dbopt_breaker_state_name((DbOptBreakerState) i));
	ok(consistent, "walk: every state is consistent");
	ok(counted, "walk: trials are those out in this epoch");
	ok(alive, "walk: unless tripped by hand, events run after reset_timeout");
}

int
main(void)
{
	test_names();
	test_config_below_range();
	test_fewer_trials_meanwhile();
	test_saturation();
	test_epoch_wraps();
	test_made_up_trial();
	test_random_walk();
	return done_testing();
}
