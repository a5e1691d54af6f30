/*
 * sql_own.c
 *		Running and retrying a caller's SQL in the caller's own session.
 *
 * Run by a backend in a procedure that may end transactions.  Each attempt is
 * a transaction of its own; the statements stand in a subtransaction of it,
 * whose rollback clears away what the functions they called have left open,
 * before the transaction itself is rolled back.  Between attempts there is a
 * transaction that has no snapshot, so that nobody is held up.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/exec.h"
#include "engine/sql_retry.h"
#include "executor/spi.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/timestamp.h"

/* A text of several statements is one command after the other for SPI. */
static void
run_statements(void *arg)
{
	SPIExecuteOptions options = {0};
	int			result;

	options.dest = CreateDestReceiver(DestNone);
	result = SPI_execute_extended(arg, &options);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("could not run the statement: %s",
						SPI_result_code_string(result))));
}

/* One attempt.  Leaves a new transaction; NULL: the old one is committed. */
static ErrorData *
try_once(char *statement, int isolation)
{
	ErrorData  *error;

	if (isolation >= 0)
		XactIsoLevel = isolation;
	error = dbopt_exec_try_all(run_statements, statement);
	if (error == NULL)
		return dbopt_exec_spi_commit();
	SPI_rollback();
	return error;
}

/* Returns the error that is final, or NULL. */
static ErrorData *
try_until_done(DbOptSqlRetry *retry, char *statement, int isolation)
{
	ErrorData  *error;
	int64		delay;

	for (;;)
	{
		retry->since = GetCurrentTimestamp();
		error = try_once(statement, isolation);
		if (error == NULL)
			return NULL;
		if (!dbopt_sql_retry_next(retry, error, &delay))
			return error;
		FreeErrorData(error);
		SPI_rollback();			/* the snapshot goes */
		dbopt_sql_retry_wait(retry, delay);
	}
}

void
dbopt_sql_retry_run(const char *policy, const char *statement, int isolation)
{
	DbOptSqlRetry retry = {.policy = policy};
	MemoryContext context;
	ErrorData  *error;
	char	   *copy;

	context = AllocSetContextCreate(PortalContext, "dbopt retry",
									ALLOCSET_SMALL_SIZES);
	copy = MemoryContextStrdup(context, statement);
	dbopt_sql_retry_check(&retry);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	MemoryContextSwitchTo(context);
	SPI_commit();				/* the isolation level is a new one's */
	error = try_until_done(&retry, copy, isolation);
	if (error != NULL)
	{
		dbopt_sql_retry_tell(&retry, error);
		ReThrowError(error);
	}
	SPI_finish();
	MemoryContextDelete(context);
}
