/*
 * session_signals.c
 *		What a pool session does when it is told to stop, or to end.
 */
#include "postgres.h"

#include <signal.h>

#include "engine/log_build.h"
#include "engine/session_signals.h"
#include "engine/worker.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "state/pool.h"
#include "tcop/tcopprot.h"

static volatile uint64 current_call = 0;	/* of a caller; 0: none */
static volatile sig_atomic_t told_to_end = false;	/* by a signal */

/*
 * A caller's cancel, or one of a declaration's build, that arrives when another
 * job has begun, or when the session has given back its slot, is nobody's.  One
 * who drops the extension may have sent the same signal.
 */
static void
handle_cancel(SIGNAL_ARGS)
{
	DbOptSession *session = dbopt_my_session;
	uint64		call;

	if (session == NULL)
		return;
	call = pg_atomic_exchange_u64(&session->cancel, 0);
	if (call == 0 || call == current_call || dbopt_session_builds(call) ||
		session->dismissed)
		StatementCancelHandler(postgres_signal_arg);
}

/*
 * An end that somebody else wants counts against no event, which is delivered
 * again.  A handler that ends its own session would be called for ever:
 * pg_terminate_backend() of oneself is a cancel, and so a failure; other ways
 * are noted as it goes (session.c).
 */
static void
handle_terminate(int signal, siginfo_t *info, void *context)
{
	if (info->si_pid == MyProcPid && current_call == 0)
		StatementCancelHandler(signal);
	else
	{
		told_to_end = true;
		die(signal);
	}
}

static void
catch_terminate(void)
{
	struct sigaction action = {0};

	action.sa_sigaction = handle_terminate;
	action.sa_flags = SA_RESTART | SA_SIGINFO;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGTERM, &action, NULL) != 0)
		elog(ERROR, "could not install a signal handler: %m");
}

void
dbopt_session_signals(void)
{
	pqsignal(SIGINT, handle_cancel);
	dbopt_worker_signals();
	catch_terminate();
}

void
dbopt_session_serves(uint64 call)
{
	current_call = call;
}

bool
dbopt_session_has_begun(uint64 call)
{
	return current_call == call;
}

bool
dbopt_session_told_to_end(void)
{
	return told_to_end;
}
