/*
 * attempt.h
 *		The rows of dbopt_attempt: suspects of a crash that are being run with
 *		nothing else beside them.
 */
#ifndef DBOPT_ATTEMPT_H
#define DBOPT_ATTEMPT_H

/*
 * What is attempted: the chunk (cursor_id, seq); or an event of the handler's
 * retries; or, with neither, those under suspicion 1.
 */
typedef struct DbOptAttempt
{
	int64		token;
	int32		handler_id;
	int32		cursor_id;		/* 0: retries */
	int64		seq;
	int64		position;
	char	   *key;			/* NULL: not one event */
	bool		crashed;		/* the server did: to be written down */
} DbOptAttempt;

/*
 * Writes down that an attempt begins, and gives it its token.  The caller
 * commits that durably before it begins.  Should the session end without an
 * attempt's end, it takes the attempt back.
 */
extern void dbopt_attempt_begin(DbOptAttempt *attempt);

/*
 * The attempt has ended, or is taken back: together with the transaction.
 * Nothing happens without one.
 */
extern void dbopt_attempt_end(const DbOptAttempt *attempt);

/* Takes a present attempt back, in a transaction of its own. */
extern void dbopt_attempt_take_back(void);

/* To be said when the transaction that has ended it is through. */
extern void dbopt_attempt_forget(void);

/* Is the attempt still written down? */
extern bool dbopt_attempt_holds(const DbOptAttempt *attempt);

/* An attempt of the handler's that crashed the server; NULL: none. */
extern DbOptAttempt *dbopt_attempt_crashed(int32 handler_id);

#endif							/* DBOPT_ATTEMPT_H */
