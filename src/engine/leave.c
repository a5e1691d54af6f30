/*
 * leave.c
 *		What a session that builds an index does when dbopt is dropped.
 *
 * Run by pool sessions that hold.c has dismissed.  An index that was not
 * finished is dropped CONCURRENTLY, which may have to wait for others' old
 * transactions.  Nobody waits for the session meanwhile: it has parted from
 * dbopt's tables, which may be gone, and SIGTERM ends it at once.  What the
 * table is locked against is limited by a lock time-out.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/leave.h"
#include "engine/worker.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/log_line.h"
#include "state/pool.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define LOCK_TIMEOUT	"3s"
#define DEADLOCK_TIMEOUT "10ms" /* who cleans up gives way */
#define PAUSE_MS		1000
#define LEAVE_MS		60000

static void
tell(const char *what, const DbOptFailure *failure)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_INDEX,
		.slot = -1,
		.message = psprintf("what is left of %s could not be dropped: %s", what,
							dbopt_log_error_text(failure->sqlstate,
												 failure->message)),
		.sqlstate = failure->sqlstate,
		.hint = "The extension was dropped. Drop the invalid index by hand."
	};

	dbopt_log_write(&line);
}

void
dbopt_leave(DbOptExecFunction clean_up, void *arg, const char *what)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													LEAVE_MS);
	TimestampTz now;
	DbOptFailure failure;

	Assert(!IsTransactionState());
	dbopt_session_part();
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("dropping what is left of %s", what));
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("deadlock_timeout", DEADLOCK_TIMEOUT, PGC_SUSET,
					PGC_S_SESSION);
	while (!dbopt_exec_guard(clean_up, arg, &failure))
	{
		now = GetCurrentTimestamp();
		if (now >= until)
		{
			tell(what, &failure);
			return;
		}
		dbopt_worker_sleep(TimestampTzPlusMilliseconds(now, PAUSE_MS),
						   DBOPT_WAIT_EVENT("DboptSessionLeave"));
	}
}
