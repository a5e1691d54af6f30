/*
 * index_job.h
 *		What a pool session does to build an index.
 */
#ifndef DBOPT_INDEX_JOB_H
#define DBOPT_INDEX_JOB_H

/*
 * Makes one attempt at the declared index of this name, and writes down how it
 * ended.  Called outside a transaction, returns outside one; raises an error
 * only when even that could not be written.
 */
extern void dbopt_index_job_run(const char *name, MemoryContext context);

#endif							/* DBOPT_INDEX_JOB_H */
