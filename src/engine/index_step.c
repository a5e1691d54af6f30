/*
 * index_step.c
 *		Transactions of a build beside those of CREATE INDEX CONCURRENTLY.
 *
 * Run by pool sessions.  What others have to wait for is given up after the
 * lock time-out, all of its locks together.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/index_step.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

/* Where neither role nor database sets one, as for other DDL of dbopt's. */
#define DEFAULT_LOCK_TIMEOUT_MS	3000

static int	lock_timeout = 0;	/* milliseconds */

void
dbopt_index_step_note_lock_timeout(void)
{
	lock_timeout = LockTimeout > 0 ? LockTimeout : DEFAULT_LOCK_TIMEOUT_MS;
}

void
dbopt_index_step_begin(MemoryContext context)
{
	CHECK_FOR_INTERRUPTS();
	dbopt_exec_begin();
	MemoryContextSwitchTo(context);
}

void
dbopt_index_step_commit(MemoryContext context)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

void
dbopt_index_step_run(DbOptExecFunction step, void *arg, MemoryContext context)
{
	DbOptFailure failure;
	bool		done;

	dbopt_index_step_begin(context);
	done = dbopt_exec_try(step, arg, lock_timeout * INT64CONST(1000),
						  &failure);
	if (!done && failure.timed_out)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the table and its partitions within %d ms",
						lock_timeout)));
	if (!done)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(failure.sqlstate[0],
									   failure.sqlstate[1],
									   failure.sqlstate[2],
									   failure.sqlstate[3],
									   failure.sqlstate[4])),
				 errmsg_internal("%s", failure.message),
				 failure.detail ? errdetail_internal("%s", failure.detail) : 0));
	dbopt_index_step_commit(context);
}
