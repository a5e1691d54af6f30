/*
 * sql_retry.h
 *		Trying a caller's SQL again: when, how often, and what is said at last.
 */
#ifndef DBOPT_SQL_RETRY_H
#define DBOPT_SQL_RETRY_H

#include "datatype/timestamp.h"
#include "utils/elog.h"

typedef struct DbOptSqlRetry
{
	const char *policy;			/* its name in dbopt_retry_policy */
	TimestampTz since;			/* when the present attempt began */
	int			attempts;		/* that have failed */
	int64		delay;			/* waited for so far, microseconds */
} DbOptSqlRetry;

/* Raises 42704 when there is no such policy.  In a transaction. */
extern void dbopt_sql_retry_check(const DbOptSqlRetry *retry);

/*
 * Another attempt has failed.  Is it worth another one?  Then *delay is how
 * long to wait before it, in microseconds.  A cancel never is, whatever the
 * policy says: it was meant for all of it.  In a transaction, which takes a
 * snapshot.
 */
extern bool dbopt_sql_retry_next(DbOptSqlRetry *retry, const ErrorData *error,
								 int64 *delay);

/* Waits, and can be interrupted.  Better not while holding anything. */
extern void dbopt_sql_retry_wait(DbOptSqlRetry *retry, int64 delay);

/* Adds attempts and delay to the error's detail. */
extern void dbopt_sql_retry_tell(const DbOptSqlRetry *retry,
								 ErrorData *error);

/*
 * Runs SQL statements, as one text, in a transaction of the calling procedure's
 * own session, and again as the policy says.  The procedure has been called
 * where it may end transactions; the present one is committed first.
 * "isolation" is one of XACT_..., or -1 for the session's default.
 */
extern void dbopt_sql_retry_run(const char *policy, const char *statement,
								int isolation);

#endif							/* DBOPT_SQL_RETRY_H */
