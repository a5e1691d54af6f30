/*
 * run_step.h
 *		A chunk that is being run, and its present transaction.
 */
#ifndef DBOPT_RUN_STEP_H
#define DBOPT_RUN_STEP_H

#include "engine/chunk.h"
#include "engine/ordered.h"
#include "engine/outcome.h"
#include "engine/run.h"
#include "engine/slice.h"

/* Above this share of failures a handler runs event by event. */
#define DBOPT_RARE_FAILURES	0.05

typedef enum DbOptRunMode
{
	DBOPT_RUN_BULK,
	DBOPT_RUN_SINGLE,
	DBOPT_RUN_ISOLATED
} DbOptRunMode;

typedef struct DbOptRun
{
	DbOptDelivery *delivery;
	const DbOptCursor *cursor;
	int64		seq;
	DbOptRunMode mode;
	bool		settled;
	bool		blocked;
	DbOptPlace *suspect;		/* the only event of a step, until that has
								 * committed; NULL */
	DbOptFailure commit_failure;
	MemoryContext slice_context;
	DbOptSlice	slice;

	/* Of the present step. */
	DbOptLog   *log;
	Snapshot	snapshot;
	DbOptChunk	chunk;
	DbOptSliceSource source;	/* of slices: the three above */
	DbOptCall	call;
	DbOptPlace	done;			/* up to here events have run */
	bool		at_end;
	int			events;			/* run in this step */
	int			calls;			/* events the handler was called for */
	bool		called_alone;	/* the last of them, at "called" */
	DbOptPlace	called;
	DbOptOutcome outcome;		/* of the events that were run */
	bool		unsettled;		/* they could not be marked: that is
								 * commit_failure, too */
	DbOptOrdered *ordered;		/* of an ordered handler's slice; NULL */
} DbOptRun;

/*
 * run_events.c: reads and runs what one transaction should of the chunk.  Sets
 * at_end when nothing is left, and blocked when the breaker has opened.
 */
extern void dbopt_run_events(DbOptRun *run);

#endif							/* DBOPT_RUN_STEP_H */
