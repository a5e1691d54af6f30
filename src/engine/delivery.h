/*
 * delivery.h
 *		What running a chunk and running retries have in common: calling the
 *		handler under its breaker, and counting.
 */
#ifndef DBOPT_DELIVERY_H
#define DBOPT_DELIVERY_H

#include "engine/call.h"
#include "engine/exec.h"
#include "engine/queue.h"
#include "state/stats.h"

/* Transactions that run event by event commit after this many. */
#define DBOPT_SINGLE_BATCH	50

typedef struct DbOptDelivery
{
	const DbOptConfig *config;
	const DbOptHandler *handler;
	int			slot;			/* of the handler in shared memory; -1: none */
	DbOptAdmission admission;
	int			unreported;		/* admitted events without a result */
	MemoryContext context;		/* outlives the delivery's transactions */

	/* Of the present transaction; counts once that has committed. */
	DbOptTally	tally;
	int			succeeded;		/* events the breaker has not heard of */
	TimestampTz first_retry_at; /* of what it has queued; PG_INT64_MAX: none */
	List	   *lines;			/* for the log: DbOptLogLine * */
	char	   *broken;			/* why the handler cannot be called; NULL */
	bool		skipped;		/* a retry that is due was locked */
	bool		locked;			/* the events table was, by others, */
	bool		handler_locked; /* or the handler */
} DbOptDelivery;

/*
 * How delivery locks an events table.  Where events are marked it is from the
 * beginning as the UPDATE will: a lock that is raised later may be a deadlock
 * with somebody who got in between, as REINDEX TABLE does.
 */
extern LOCKMODE dbopt_delivery_lock_mode(const DbOptSource *source);

/*
 * To be called before the events table is opened, in the same transaction.
 * Locks the handler, too.  False: others have locked one of them, and nobody
 * waits for that; or the handler has gone, or does not go by order any more, or
 * does now.
 */
extern bool dbopt_delivery_lock_table(DbOptDelivery *delivery);

/*
 * Looks the handler's function up, in the transaction that calls it.  Sets
 * broken, in the delivery's context.
 */
extern void dbopt_delivery_prepare(DbOptDelivery *delivery, DbOptCall *call,
								   const DbOptLog *log);

/* Asks the breaker for events; false: none now. */
extern bool dbopt_delivery_admit(DbOptDelivery *delivery, int wanted);

/* Gives back what was admitted and not used. */
extern void dbopt_delivery_release(DbOptDelivery *delivery);

/* Has the handler's breaker opened meanwhile? */
extern bool dbopt_delivery_is_blocked(const DbOptDelivery *delivery);

/*
 * Calls the handler for rows in a subtransaction.  A failure of one row alone
 * is reported to the breaker at once, a success when a failure follows it, or
 * with the commit, which may fail yet.  A failure of several says nothing of
 * each.
 */
extern bool dbopt_delivery_try(DbOptDelivery *delivery, DbOptCall *call,
							   Datum *rows, int count, bool is_retry,
							   DbOptFailure *failure);

/*
 * The same for a function that calls the handler for several events and keeps
 * the number of them in *count.
 */
extern bool dbopt_delivery_try_function(DbOptDelivery *delivery,
										DbOptExecFunction function, void *arg,
										const int *count,
										DbOptFailure *failure);

/*
 * Has the handler ended its session when it was called for this event?  Then
 * that is the event's failure.  To be asked before the first call of a
 * transaction.
 */
extern bool dbopt_delivery_departed(const DbOptDelivery *delivery,
									int64 position, const char *key,
									DbOptFailure *failure);

/* A cancel by our own timer says so, and not "due to user request". */
extern void dbopt_delivery_name_timeout(const DbOptDelivery *delivery,
										DbOptFailure *failure);

/* Counts a failure that came otherwise: at commit. */
extern void dbopt_delivery_failed(DbOptDelivery *delivery,
								  const DbOptFailure *failure);

/* Decides what becomes of a failed event, and writes it down. */
extern void dbopt_delivery_settle_failed(DbOptDelivery *delivery,
										 DbOptQueue *queue,
										 DbOptFailed *failed);

/*
 * That failure could not be noted beside its event, for another one: the log is
 * to say so when the transaction has committed.
 */
extern void dbopt_delivery_not_noted(DbOptDelivery *delivery,
									 const DbOptFailed *failed,
									 const DbOptFailure *failure);

/* The transaction begins; it has committed. */
extern void dbopt_delivery_begin(DbOptDelivery *delivery);
extern void dbopt_delivery_committed(DbOptDelivery *delivery);

/*
 * Its commit, after so many calls of the handler, has failed, and it was rolled
 * back.  Without a call that is no event's failure, but the job's, and is
 * raised.  So is want of memory after several: in this session the events that
 * have done nothing would fail, too.
 */
extern void dbopt_delivery_commit_failed(DbOptDelivery *delivery, int calls,
										 const DbOptFailure *failure);

#endif							/* DBOPT_DELIVERY_H */
