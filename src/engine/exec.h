/*
 * exec.h
 *		Running what may fail: transactions and subtransactions.  The only place
 *		that catches errors.
 */
#ifndef DBOPT_EXEC_H
#define DBOPT_EXEC_H

#include "compat.h"
#include "utils/elog.h"

#define DBOPT_SQLSTATE_LENGTH	6	/* with the terminating zero */

/* What failed; the texts are in the memory context of the caller. */
typedef struct DbOptFailure
{
	char		sqlstate[DBOPT_SQLSTATE_LENGTH];
	char	   *message;
	char	   *detail;			/* NULL: none */
	char	   *hint;			/* NULL: none */
	bool		timed_out;		/* by the timeout given */
	int64		duration;		/* of the call, microseconds; 0: unknown */
} DbOptFailure;

typedef void (*DbOptExecFunction) (void *arg);

/*
 * Starts a transaction: READ COMMITTED and READ WRITE, whatever the role's
 * settings say.
 */
extern void dbopt_exec_begin(void);

/*
 * Commits, and makes "context" the current one.  When that fails (a deferred
 * constraint, for one), the transaction is rolled back and *failure, in that
 * context, says why; so it is when deferred triggers need more than "timeout"
 * microseconds (0: no limit).  A commit that need not be durable at once is
 * not waited for.
 */
typedef enum DbOptDurability
{
	DBOPT_COMMIT_AS_SET,		/* as synchronous_commit says */
	DBOPT_COMMIT_ASYNC,
	DBOPT_COMMIT_SYNC			/* durable here, whatever the setting says */
} DbOptDurability;

extern bool dbopt_exec_commit(MemoryContext context,
							  DbOptDurability durability,
							  int64 timeout, DbOptFailure *failure);

/*
 * Rolls back after a failure, the texts of which are copied to "context", and
 * makes that the current one.
 */
extern void dbopt_exec_roll_back(MemoryContext context,
								 DbOptFailure *failure);

/*
 * Fires what triggers and constraints have deferred, as the present user, and
 * from now on none is deferred any more: no handler may run after that in the
 * transaction.
 */
extern void dbopt_exec_fire_deferred(void);

/* Was there no memory?  What is tried next in this session may have none, too. */
extern bool dbopt_exec_is_starved(const DbOptFailure *failure);

/* Raises a failure of a commit that has nobody else to answer for it. */
pg_noreturn extern void dbopt_exec_raise_commit(const DbOptFailure *failure);

/*
 * Calls a function in a subtransaction, which is rolled back when the function
 * fails or needs more than "timeout" microseconds (0: no limit).
 */
extern bool dbopt_exec_try(DbOptExecFunction function, void *arg,
						   int64 timeout, DbOptFailure *failure);

/*
 * The same without a limit, and without a snapshot for the function.  Returns
 * the error with all that is known of it, in the current memory context; NULL:
 * there was none.
 */
extern ErrorData *dbopt_exec_try_all(DbOptExecFunction function, void *arg);

/*
 * Calls a function that only looks, in a subtransaction that is rolled back, so
 * that no lock of it stays; raises its error.
 */
extern void dbopt_exec_undone(DbOptExecFunction function, void *arg);

/*
 * Calls a function that runs transactions of its own, or none; after an error
 * none is left open.
 */
extern bool dbopt_exec_guard(DbOptExecFunction function, void *arg,
							 DbOptFailure *failure);

/*
 * The same; returns the error with all that is known of it, in the current
 * memory context; NULL: there was none.
 */
extern ErrorData *dbopt_exec_guard_all(DbOptExecFunction function, void *arg);

/* Tells the client, and not the log, of an error that was caught before. */
extern void dbopt_exec_send_error(ErrorData *error);

/*
 * SPI_commit(), but returns what made it fail, in the current memory context;
 * NULL: committed.  There is a new transaction then, in either case.
 */
extern ErrorData *dbopt_exec_spi_commit(void);

#endif							/* DBOPT_EXEC_H */
