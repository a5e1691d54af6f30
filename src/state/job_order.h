/*
 * job_order.h
 *		What a session is told to do, and what it tells of it, as in its slot.
 */
#ifndef DBOPT_JOB_ORDER_H
#define DBOPT_JOB_ORDER_H

#include "datatype/timestamp.h"
#include "storage/dsm_impl.h"

typedef enum DbOptJobKind
{
	DBOPT_JOB_NONE,
	DBOPT_JOB_DELIVER,			/* hand out and run chunks of a cursor */
	DBOPT_JOB_CHUNK,			/* run one chunk that was left over */
	DBOPT_JOB_RETRY,			/* run due retries of a handler */
	DBOPT_JOB_SUSPECTS,			/* run what may have crashed the server,
								 * alone: a chunk, or with cursor_id 0 a
								 * handler's due retries */
	DBOPT_JOB_INDEX,			/* build an index, or without a name find
								 * those that are missing; handler_id is 0 */
	DBOPT_JOB_LOG_INDEX,		/* build the log index of a source */
	DBOPT_JOB_SQL				/* run a caller's SQL; handler_id is -1 */
} DbOptJobKind;

typedef struct DbOptJob
{
	DbOptJobKind kind;
	int32		handler_id;		/* but for INDEX */
	int32		source_id;		/* INDEX */
	int32		cursor_id;		/* DELIVER, CHUNK, SUSPECTS */
	int64		seq;			/* CHUNK, SUSPECTS */
	bool		in_group;		/* SUSPECTS: not one by one */
	TimestampTz since;			/* RETRY: none of the handler's retries is due
								 * before; 0: unknown */
	NameData	index;			/* INDEX: as declared */
	int			caller;			/* SQL: its slot, */
	uint64		ticket;			/* its call, */
	dsm_handle	segment;		/* and where its statements are; */
	bool		awake;			/* CPUs are to spare: the two may wait for
								 * each other without sleeping at once */
} DbOptJob;

typedef enum DbOptJobOutcome
{
	DBOPT_JOB_DONE,				/* nothing more was found */
	DBOPT_JOB_MORE,				/* gave way; there is more to do */
	DBOPT_JOB_REJECTED,			/* the breaker lets nothing through */
	DBOPT_JOB_LOCKED,			/* the events table is locked by others, */
	DBOPT_JOB_HANDLER_LOCKED,	/* or the handler */
	DBOPT_JOB_FAILED			/* an error outside the handler, logged; not
								 * before retry_at */
} DbOptJobOutcome;

typedef struct DbOptJobResult
{
	DbOptJobOutcome outcome;
	TimestampTz retry_at;
	TimestampTz first_retry_at; /* of a handler without a slot; 0: unknown */
	bool		leftover;		/* a chunk was not settled: another job is to
								 * run the rest of it */
	bool		skipped;		/* a retry that is due was locked */
} DbOptJobResult;

#endif							/* DBOPT_JOB_ORDER_H */
