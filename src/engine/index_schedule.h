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

/* A session got the job; it has finished it, or has gone. */
extern void dbopt_index_schedule_assigned(void);
extern void dbopt_index_schedule_ended(void);

#endif							/* DBOPT_INDEX_SCHEDULE_H */
