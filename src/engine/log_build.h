/*
 * log_build.h
 *		Building the log index of an attached table without locking it.
 */
#ifndef DBOPT_LOG_BUILD_H
#define DBOPT_LOG_BUILD_H

#include "state/shmem.h"

/* Runs a job of kind DBOPT_JOB_LOG_INDEX to its end, outside transactions. */
extern void dbopt_log_build_run(const DbOptJob *job, DbOptJobResult *result);

#endif							/* DBOPT_LOG_BUILD_H */
