/*
 * exec_timer.c
 *		The handler's timer.
 *
 * Run by pool sessions, for what exec.c runs.  statement_timeout is armed only
 * for statements of clients, hence a timer of our own.  A handler may catch the
 * cancel and has CANCEL_AGAIN_MS then to clean up; the next cancel it cannot
 * hold, since every subtransaction that is rolled back with it brings it back.
 * What the handler has deferred to the commit has that time, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/exec_timer.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* How long after a cancel that was swallowed the next one follows, ms. */
#define CANCEL_AGAIN_MS 100

static TimeoutId timer = MAX_TIMEOUTS;	/* MAX_TIMEOUTS: not registered */
static int64 timer_timeout = 0; /* microseconds; 0: it is not running */
static volatile sig_atomic_t timer_cancels = 0; /* since it was started */

static void
cancel(void)
{
	QueryCancelPending = true;
	InterruptPending = true;
}

/* In a signal handler: cancels what runs. */
static void
cancel_at_timeout(void)
{
	timer_cancels++;
	cancel();
	SetLatch(MyLatch);
}

/* What catches an error rolls a subtransaction back. */
static void
insist_on_cancel(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && timer_timeout > 0 &&
		timer_cancels > 1)
		cancel();
}

void
dbopt_exec_timer_restart(void)
{
	if (timer_timeout > 0)
		enable_timeout_every(timer,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														 (timer_timeout + 999) / 1000),
							 CANCEL_AGAIN_MS);
}

/* All triggers have fired: from here on a commit must not be cancelled. */
static void
stop_before_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
		(void) dbopt_exec_timer_stop();
}

void
dbopt_exec_timer_start(int64 timeout)
{
	if (timeout <= 0)
		return;
	if (timer == MAX_TIMEOUTS)
	{
		timer = RegisterTimeout(USER_TIMEOUT, cancel_at_timeout);
		RegisterSubXactCallback(insist_on_cancel, NULL);
		RegisterXactCallback(stop_before_commit, NULL);
	}
	timer_cancels = 0;
	timer_timeout = timeout;
	dbopt_exec_timer_restart();
}

bool
dbopt_exec_timer_stop(void)
{
	if (timer_timeout <= 0)
		return false;
	timer_timeout = 0;
	disable_timeout(timer, false);
	if (timer_cancels > 0)
		QueryCancelPending = false;
	return timer_cancels > 0;
}
