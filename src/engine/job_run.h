/*
 * job_run.h
 *		A job that a session is at, and the steps that all kinds of jobs are
 *		made of (job.c).
 */
#ifndef DBOPT_JOB_RUN_H
#define DBOPT_JOB_RUN_H

#include "engine/attempt.h"
#include "engine/cursor.h"
#include "engine/delivery.h"
#include "state/shmem.h"

typedef struct DbOptJobRun
{
	const DbOptJob *job;
	DbOptJobResult *result;
	MemoryContext context;		/* of the job */
	MemoryContext round_context;	/* of one chunk or batch */
	DbOptDelivery delivery;
	DbOptCursor *cursor;
	TimestampTz claimed_at;		/* before the last batch of retries */
	TimestampTz retry_since;	/* where the next batch of retries starts */
} DbOptJobRun;

/*
 * Begins a round: a transaction, in which the configuration is read.  False:
 * the handler is not to run at present.
 */
extern bool dbopt_job_round_begin(DbOptJobRun *run);

/* Ends a transaction that cannot fail to commit but by an accident. */
extern void dbopt_job_round_commit(DbOptJobRun *run,
								   DbOptDurability durability);

/* The cursor of the job, read once, in a transaction; false: it is gone. */
extern bool dbopt_job_find_cursor(DbOptJobRun *run);

/* On a mark_processed source another handler may be the right one by now. */
extern bool dbopt_job_is_handlers_cursor(const DbOptJobRun *run);

/* Runs a chunk; true: it is settled and the job may go on. */
extern bool dbopt_job_run_chunk(DbOptJobRun *run, int64 seq, int events);

extern void dbopt_job_finish(DbOptJobRun *run, DbOptJobOutcome outcome);
extern void dbopt_job_finish_rejected(DbOptJobRun *run);
extern void dbopt_job_finish_blocked(DbOptJobRun *run);

/* suspect_job.c: the whole job of running suspects. */
extern void dbopt_job_run_suspects(DbOptJobRun *run);

#endif							/* DBOPT_JOB_RUN_H */
