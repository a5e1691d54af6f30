/*
 * job.h
 *		What a pool session does: one job, from its transactions' start to
 *		their end.
 */
#ifndef DBOPT_JOB_H
#define DBOPT_JOB_H

#include "state/shmem.h"

/*
 * Runs a job.  Called outside a transaction, returns outside one; does not
 * raise errors: one that is not an event's is logged and gives
 * DBOPT_JOB_FAILED.  A terminated session leaves by FATAL.
 */
extern void dbopt_job_run(const DbOptJob *job, DbOptJobResult *result);

#endif							/* DBOPT_JOB_H */
