/*
 * suspect.h
 *		What may have crashed the server: marking it, and what is marked.
 *
 * The suspicion of a chunk or a retry is
 *
 *		1	it may have been run when the server crashed;
 *		2	the server crashed when it, or a group with it, was run with
 *			nothing else beside;
 *		3	the server crashed when it was run alone (a retry only).
 */
#ifndef DBOPT_SUSPECT_H
#define DBOPT_SUSPECT_H

#include "engine/config.h"
#include "engine/cursor.h"
#include "nodes/pg_list.h"

#define DBOPT_SUSPECT_GROUP		1
#define DBOPT_SUSPECT_ALONE		2
#define DBOPT_SUSPECT_KILLER	3

/*
 * An event that crashes the server does so once with others, once in a group,
 * and once alone.  A policy with fewer attempts has no attempt for the group.
 */
#define DBOPT_CRASHES_WITH_GROUP	3

/* A chunk, or a handler's retries, under suspicion. */
typedef struct DbOptSuspects
{
	int32		handler_id;		/* of retries */
	int32		cursor_id;		/* of a chunk; 0: retries */
	int64		seq;
	int			suspicion;		/* of retries: 1, or more than 1 */
	int64		count;			/* of retries */
	bool		in_group;		/* to be run as a group */
	TimestampTz retry_at;		/* of the first of them; 0: a chunk */
	TimestampTz due_at;			/* not before, all considered */
	int			vain;			/* sessions sent for them that changed nothing */
	TimestampTz not_before;		/* because of that; 0: none was */
} DbOptSuspects;

/* All of these are run by the scheduler, in a transaction. */

/* Draws the conclusions from attempts that earlier incarnations have left. */
extern void dbopt_suspects_judge(void);

/*
 * Marks chunks and retries that may have been run when the server crashed.
 * "sessions" is the number that a handler without a limit could have had.
 */
extern void dbopt_suspects_mark(int sessions);

/*
 * Hands out what a hand-out of this cursor that was lost in a crash may have
 * held, as a chunk, which is left to dbopt_suspects_mark().  Nothing happens
 * when the events table or the handler is locked.
 */
extern void dbopt_suspects_hand_out(const DbOptConfig *config,
									const DbOptCursor *cursor, int sessions);

/* What is marked, as DbOptSuspects *. */
extern List *dbopt_suspects_load(void);

#endif							/* DBOPT_SUSPECT_H */
