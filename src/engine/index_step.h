/*
 * index_step.h
 *		Transactions of a build beside those of CREATE INDEX CONCURRENTLY.
 */
#ifndef DBOPT_INDEX_STEP_H
#define DBOPT_INDEX_STEP_H

#include "engine/exec.h"

/* Before lock_timeout is switched off: what it was limits the steps run here. */
extern void dbopt_index_step_note_lock_timeout(void);

/* A transaction; the context, which outlives it, is the current one after. */
extern void dbopt_index_step_begin(MemoryContext context);
extern void dbopt_index_step_commit(MemoryContext context);

/*
 * Runs what others wait for in a transaction that is over, or given up (55P03),
 * in time.
 */
extern void dbopt_index_step_run(DbOptExecFunction step, void *arg,
								 MemoryContext context);

#endif							/* DBOPT_INDEX_STEP_H */
