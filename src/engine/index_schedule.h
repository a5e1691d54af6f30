/*
 * index_schedule.h
 *		The scheduler's part in building indexes: one at a time.
 */
#ifndef DBOPT_INDEX_SCHEDULE_H
#define DBOPT_INDEX_SCHEDULE_H

#include "engine/schedule.h"

/* Is the queue to be read, apart from news about the configuration? */
extern bool dbopt_index_schedule_due(TimestampTz now);

/* Reads it.  In a transaction. */
extern void dbopt_index_schedule_load(TimestampTz now);

/* Adds the build that is due, if nothing is being built. */
extern void dbopt_index_schedule_collect(DbOptCandidates *candidates,
										 TimestampTz now);

/* A build's session comes on top of those for events. */
extern bool dbopt_index_schedule_needs_session(TimestampTz now);
extern bool dbopt_index_schedule_running(void);

/* Tables may lack declared indexes, which are to be had at once. */
extern void dbopt_index_schedule_survey(TimestampTz now);

/* A session got the job; it has finished it, or has gone. */
extern void dbopt_index_schedule_assigned(const DbOptJob *job);
extern void dbopt_index_schedule_ended(const DbOptJob *job,
									   const DbOptJobResult *result,
									   TimestampTz now);

#endif							/* DBOPT_INDEX_SCHEDULE_H */
