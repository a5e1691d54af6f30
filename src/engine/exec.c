/*
 * exec.c
 *		Running what may fail: transactions and subtransactions.  The only place
 *		that catches errors.
 *
 * Run by pool sessions.  A terminated session leaves by FATAL, which passes no
 * handler here; a cancelled statement is an error as any other, so that a
 * handler cannot stop its session by cancelling itself.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "engine/exec.h"
#include "engine/exec_timer.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* Bytes of an error's texts that are kept at most: payload may be in them. */
#define TEXT_MAX (64 * 1024)

/*
 * A copy of an error's text, or of its start.  What is no character of the
 * database, as handlers in C may raise, becomes a question mark each byte:
 * texts that are stored must be valid ones.
 */
static char *
text_to_keep(const char *raised)
{
	int			rest = strnlen(raised, TEXT_MAX);
	char	   *kept = palloc(rest + 1);
	char	   *end = kept;

	while (rest > 0)
	{
		int			length = pg_encoding_verifymbchar(GetDatabaseEncoding(),
													  raised, rest);

		if (length > 0)
			memcpy(end, raised, length);
		else
		{
			*end = '?';
			length = 1;
		}
		raised += length;
		end += length;
		rest -= length;
	}
	*end = '\0';
	return kept;
}

static void
failure_from_error(DbOptFailure *failure)
{
	ErrorData  *error = CopyErrorData();

	FlushErrorState();
	memset(failure, 0, sizeof(*failure));
	strlcpy(failure->sqlstate, unpack_sql_state(error->sqlerrcode),
			sizeof(failure->sqlstate));
	failure->message = text_to_keep(error->message ? error->message : "");
	failure->detail = error->detail ? text_to_keep(error->detail) : NULL;
	failure->hint = error->hint ? text_to_keep(error->hint) : NULL;
	FreeErrorData(error);
}

void
dbopt_exec_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
}

bool
dbopt_exec_commit(MemoryContext context, DbOptDurability durability,
				  int64 timeout, DbOptFailure *failure)
{
	int			as_set = synchronous_commit;
	volatile bool committed = false;

	if (durability == DBOPT_COMMIT_ASYNC)
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	if (durability == DBOPT_COMMIT_SYNC &&
		synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
	PG_TRY();
	{
		dbopt_exec_timer_start(timeout);
		CommitTransactionCommand();
		committed = true;
	}
	PG_CATCH();
	{
		bool		timed_out = dbopt_exec_timer_stop();

		MemoryContextSwitchTo(context);
		failure_from_error(failure);
		failure->timed_out = timed_out &&
			strcmp(failure->sqlstate, "57014") == 0;
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	synchronous_commit = as_set;
	MemoryContextSwitchTo(context);
	return committed;
}

void
dbopt_exec_roll_back(MemoryContext context, DbOptFailure *failure)
{
	MemoryContextSwitchTo(context);
	failure->message = pstrdup(failure->message);
	failure->detail = failure->detail ? pstrdup(failure->detail) : NULL;
	failure->hint = failure->hint ? pstrdup(failure->hint) : NULL;
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
}

void
dbopt_exec_fire_deferred(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(all);
}

bool
dbopt_exec_is_starved(const DbOptFailure *failure)
{
	return strcmp(failure->sqlstate, "53200") == 0;
}

void
dbopt_exec_raise_commit(const DbOptFailure *failure)
{
	const char *code = failure->sqlstate;

	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(code[0], code[1], code[2], code[3],
								   code[4])),
			 errmsg("could not commit: %s", failure->message)));
}

/*
 * A function in C may return with subtransactions of its own left open: they
 * are not ours to commit.
 */
static void
check_nest_level(int level)
{
	if (GetCurrentTransactionNestLevel() != level)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("the function has left a subtransaction open")));
}

/* Rolls back our subtransaction, and those that were left open in it. */
static void
roll_back_to(int level)
{
	while (GetCurrentTransactionNestLevel() >= level)
		RollbackAndReleaseCurrentSubTransaction();
}

bool
dbopt_exec_try(DbOptExecFunction function, void *arg, int64 timeout,
			   DbOptFailure *failure)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			level = GetCurrentTransactionNestLevel() + 1;
	volatile bool succeeded = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		dbopt_exec_timer_start(timeout);
		function(arg);
		(void) dbopt_exec_timer_stop();
		CHECK_FOR_INTERRUPTS(); /* the function may have cancelled itself */
		check_nest_level(level);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
		succeeded = true;
	}
	PG_CATCH();
	{
		bool		timed_out = dbopt_exec_timer_stop();

		MemoryContextSwitchTo(context);
		failure_from_error(failure);
		failure->timed_out = timed_out &&
			strcmp(failure->sqlstate, "57014") == 0;
		roll_back_to(level);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	CHECK_FOR_INTERRUPTS();
	return succeeded;
}

static ErrorData *
take_error(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	return error;
}

/* In a subtransaction that is kept, or rolled back in any case. */
static ErrorData *
try_all(DbOptExecFunction function, void *arg, bool keep)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		function(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = take_error(context);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

ErrorData *
dbopt_exec_try_all(DbOptExecFunction function, void *arg)
{
	return try_all(function, arg, true);
}

void
dbopt_exec_undone(DbOptExecFunction function, void *arg)
{
	ErrorData  *error = try_all(function, arg, false);

	if (error != NULL)
		ReThrowError(error);
}

ErrorData *
dbopt_exec_spi_commit(void)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		error = take_error(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

bool
dbopt_exec_guard(DbOptExecFunction function, void *arg, DbOptFailure *failure)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool succeeded = false;

	PG_TRY();
	{
		function(arg);
		succeeded = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure_from_error(failure);
		if (IsTransactionOrTransactionBlock())
			AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return succeeded;
}

ErrorData *
dbopt_exec_guard_all(DbOptExecFunction function, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		error = take_error(context);
		if (IsTransactionOrTransactionBlock())
			AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

void
dbopt_exec_send_error(ErrorData *error)
{
	error->output_to_server = false;
	PG_TRY();
	{
		ReThrowError(error);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
}
