/*
 * outcome.h
 *		What has become of the events of a chunk that one transaction has run.
 */
#ifndef DBOPT_OUTCOME_H
#define DBOPT_OUTCOME_H

#include "engine/delivery.h"
#include "engine/mark.h"
#include "engine/ordered.h"

typedef struct DbOptOutcome
{
	DbOptDelivery *delivery;
	DbOptLog   *log;
	char	   *event_type;
	List	   *failed;			/* of DbOptFailed * */
	DbOptMarks	marks;			/* of both, on a mark_processed source */
} DbOptOutcome;

/* In the transaction's memory, which the outcome lives in. */
extern void dbopt_outcome_begin(DbOptOutcome *outcome,
								DbOptDelivery *delivery, DbOptLog *log,
								char *event_type);

/* An event, which was run for the first time, has succeeded or failed. */
extern void dbopt_outcome_success(DbOptOutcome *outcome,
								  const DbOptPlace *place);
extern void dbopt_outcome_failure(DbOptOutcome *outcome,
								  const DbOptPlace *place,
								  const DbOptFailure *failure);

/*
 * Writes failures down, and marks events; "ordered" is what an ordered
 * handler's slice was judged by, or NULL.  False: events could not be marked,
 * as *failure in the current memory context says, and the transaction is to be
 * rolled back.
 */
extern bool dbopt_outcome_settle(DbOptOutcome *outcome,
								 DbOptOrdered *ordered,
								 DbOptFailure *failure);

#endif							/* DBOPT_OUTCOME_H */
