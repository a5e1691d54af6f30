/*
 * ordered.h
 *		The events of one transaction of an ordered handler: which may run, in
 *		which order, and what becomes of those that may not.
 *
 * A transaction goes like this:
 *
 *		ordered = dbopt_ordered_begin(delivery, log);
 *		dbopt_ordered_add(ordered, event, row);			each of its events
 *		retries: add dbopt_ordered_claim_followers(), too
 *		dbopt_ordered_judge(ordered);
 *		while ((i = dbopt_ordered_next(ordered)) >= 0)
 *			if (dbopt_ordered_may_run(ordered, i))
 *				run it; then dbopt_ordered_done() or dbopt_ordered_failed()
 *		write down the failures
 *		dbopt_ordered_settle(ordered, queue);
 */
#ifndef DBOPT_ORDERED_H
#define DBOPT_ORDERED_H

#include "engine/aggregate.h"
#include "engine/delivery.h"
#include "engine/ordered_rows.h"

/* An aggregate that events of this transaction belong to. */
typedef struct DbOptAggregate
{
	char	   *type;
	char	   *id;
	uint32		hash;
	int			first;			/* its first event of this transaction */
	int			events;			/* how many it has of them */
	DbOptOrderedRow *other;		/* the lowest version in the retry queue that
								 * is not of this transaction; NULL: none */
	bool		moved;			/* one was delivered or given up */
} DbOptAggregate;

typedef enum DbOptOrderedState
{
	DBOPT_ORDERED_OPEN,			/* not decided; as it was, if it is queued */
	DBOPT_ORDERED_DONE,
	DBOPT_ORDERED_FAILED,
	DBOPT_ORDERED_HELD			/* to be tried later */
} DbOptOrderedState;

typedef struct DbOptOrderedEvent
{
	DbOptFailed *event;
	DbOptAggregate *aggregate;	/* NULL: without aggregate or version, in no
								 * order */
	Datum		version;		/* numeric */
	bool		has_row;		/* values are set */
	Datum		values[DBOPT_AGGREGATE_COLUMNS];	/* of the events table */
	DbOptOrderedRow *row;		/* in dbopt_ordered; NULL: none */
	bool		behind_open;	/* its predecessor is not handed out or runs
								 * elsewhere */
	DbOptOrderedState state;
} DbOptOrderedEvent;

typedef struct DbOptOrdered
{
	DbOptDelivery *delivery;
	DbOptLog   *log;
	DbOptAggregateColumns columns;
	Relation	rel;			/* dbopt_ordered, ROW EXCLUSIVE */
	Snapshot	snapshot;		/* from after the aggregates' locks */
	List	   *aggregates;		/* of DbOptAggregate * */
	int			count;
	int			size;
	DbOptOrderedEvent *events;
	int			at;				/* of dbopt_ordered_next() */
	int		   *order;			/* indexes of events */
} DbOptOrdered;

/* The caller has the handler and the events table locked. */
extern DbOptOrdered *dbopt_ordered_begin(DbOptDelivery *delivery,
										 DbOptLog *log);

/*
 * Adds an event, its row being one of the events table, or 0 for one that is
 * not there any more.  They are numbered from 0.
 */
extern void dbopt_ordered_add(DbOptOrdered *ordered, DbOptFailed *event,
							  Datum row);

/*
 * Claims, of the aggregates of the events that were added, the lowest ones that
 * are held back and may be tried at "now", at most "limit"; as DbOptFailed *,
 * to be added.
 */
extern List *dbopt_ordered_claim_followers(DbOptOrdered *ordered,
										   DbOptQueue *queue, TimestampTz now,
										   int limit);

/* Locks the aggregates and finds out what is before the events. */
extern void dbopt_ordered_judge(DbOptOrdered *ordered);

/* The next event in order, lower versions first; -1: that was the last. */
extern int	dbopt_ordered_next(DbOptOrdered *ordered);

/* May this event run now?  It counts as held back until it has. */
extern bool dbopt_ordered_may_run(DbOptOrdered *ordered, int i);

/*
 * What became of it.  A failed event's retry_at is 0 when it is given up, else
 * it holds back its successors.
 */
extern void dbopt_ordered_hold(DbOptOrdered *ordered, int i);
extern void dbopt_ordered_done(DbOptOrdered *ordered, int i);
extern void dbopt_ordered_failed(DbOptOrdered *ordered, int i,
								 DbOptFailed *failed);

/*
 * Writes down what is held back, and releases what need not wait any more.
 * Failures have been written down before.
 */
extern void dbopt_ordered_settle(DbOptOrdered *ordered, DbOptQueue *queue);

/* Is this one of the transaction's own events? */
extern bool dbopt_ordered_is_own(const DbOptOrdered *ordered, int64 position,
								 const char *key);

/* The order of versions, as of strcmp(). */
extern int	dbopt_version_compare(Datum a, Datum b);

#endif							/* DBOPT_ORDERED_H */
