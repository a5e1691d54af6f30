/*
 * index_attempt.h
 *		One attempt to build an index, as it is written down.
 */
#ifndef DBOPT_INDEX_ATTEMPT_H
#define DBOPT_INDEX_ATTEMPT_H

#include "datatype/timestamp.h"
#include "engine/exec.h"
#include "engine/index_target.h"

typedef struct DbOptIndexJob
{
	const char *name;
	MemoryContext context;		/* outlives the transactions */
	DbOptIndexRow *row;
	int64		declaration;	/* its hash */
	DbOptIndexTarget target;
	DbOptIndexTarget applied;	/* the last one that could be built */
	List	   *leftovers;
	List	   *parts;			/* DbOptIndexPart *, those begun */
	int			attempt;
	bool		cut_short;		/* the attempt before: its session has gone */
	TimestampTz since;			/* when this attempt began */
	bool		recanted;		/* this one, or the one before, was for a
								 * declaration that has changed since */
	bool		built;			/* by this attempt, if it is still there */
} DbOptIndexJob;

/* A transaction of the job's. */
extern void dbopt_index_job_begin(const DbOptIndexJob *job);
extern void dbopt_index_job_commit(const DbOptIndexJob *job);

/*
 * The declaration as it is now, held against the database as it is now.  In a
 * transaction; false: there is none.
 */
extern bool dbopt_index_job_examine(DbOptIndexJob *job);

/*
 * Is there anything to do?  Writes down that it is being done.  In a
 * transaction.
 */
extern bool dbopt_index_attempt_begin(DbOptIndexJob *job);

/* ---- in a transaction of their own ---- */

/*
 * How it has ended.  The error of a failure is noted at once: to clean up may
 * have to wait as long as to build.
 */
extern void dbopt_index_attempt_succeeded(DbOptIndexJob *job);
extern void dbopt_index_attempt_note(DbOptIndexJob *job,
									 const DbOptFailure *failure);
extern void dbopt_index_attempt_failed(DbOptIndexJob *job,
									   const DbOptFailure *failure);

/* Has the declaration changed, or gone, since it began? */
extern bool dbopt_index_attempt_outdated(DbOptIndexJob *job);

/* So it has ended: the declaration as it is now comes next, if there is one. */
extern void dbopt_index_attempt_recanted(DbOptIndexJob *job);

/* ---- the log ---- */

/* sqlstate: NULL: no error; again_at: 0: it is not tried again. */
extern void dbopt_index_attempt_log(const DbOptIndexJob *job,
									const char *sqlstate,
									TimestampTz again_at,
									const char *message);

#endif							/* DBOPT_INDEX_ATTEMPT_H */
