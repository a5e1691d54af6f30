/*
 * worker.c
 *		What dbopt's background processes have in common: how they are started,
 *		their signals, and their sleep.
 */
#include "postgres.h"

#include <signal.h>

#include "engine/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static void
fill_worker(BackgroundWorker *worker, const char *type, const char *function)
{
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	strlcpy(worker->bgw_library_name, "dbopt", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
}

void
dbopt_launcher_register(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;
	fill_worker(&worker, "dbopt launcher", "dbopt_launcher_main");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

BackgroundWorkerHandle *
dbopt_worker_start(const char *type, const char *function,
				   DbOptWorkerTarget target)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle = NULL;
	MemoryContext previous;
	bool		registered;

	StaticAssertStmt(sizeof(target) <= BGW_EXTRALEN, "target too large");
	fill_worker(&worker, type, function);
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s, slot %d", type, target.slot);
	memcpy(worker.bgw_extra, &target, sizeof(target));

	previous = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(previous);
	return registered ? handle : NULL;
}

DbOptWorkerTarget
dbopt_worker_target(void)
{
	DbOptWorkerTarget target;

	memcpy(&target, MyBgworkerEntry->bgw_extra, sizeof(target));
	return target;
}

/*
 * SIGINT stays as it is for background workers: ignored but in a session.
 */
void
dbopt_worker_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
}

/* A cancel comes too late for what it was meant for. */
static void
check_for_interrupts_but_cancels(void)
{
	HOLD_CANCEL_INTERRUPTS();
	CHECK_FOR_INTERRUPTS();
	RESUME_CANCEL_INTERRUPTS();
	QueryCancelPending = false;
}

/*
 * Statistics that were reported too recently to be sent at once are sent at
 * the end of a long sleep, as a client's backend does it.  An interrupt may have
 * come while something else was waited for, and its latch been reset there.
 */
void
dbopt_worker_sleep(TimestampTz until, uint32 wait_event)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout = -1;
	long		flush;

	check_for_interrupts_but_cancels();
	flush = pgstat_report_stat(false);
	if (until != DBOPT_NEVER)
	{
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												  until);
		events |= WL_TIMEOUT;
	}
	if (flush > 0 && (timeout < 0 || flush < timeout))
	{
		timeout = flush;
		events |= WL_TIMEOUT;
	}
	else
		flush = 0;

	if ((WaitLatch(MyLatch, events, timeout, wait_event) & WL_TIMEOUT) != 0 &&
		flush > 0)
		pgstat_report_stat(true);
	ResetLatch(MyLatch);
	check_for_interrupts_but_cancels();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}
