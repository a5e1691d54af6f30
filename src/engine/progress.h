/*
 * progress.h
 *		What is stored of how far all cursors have come.
 */
#ifndef DBOPT_PROGRESS_H
#define DBOPT_PROGRESS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct DbOptChunkId
{
	int32		cursor_id;
	int64		seq;
	int			suspicion;
	int64		to_position;
	TimestampTz handed_out_at;
} DbOptChunkId;

/* All of these in a transaction; results in the caller's memory context. */

/* All chunks that are handed out and not settled, as DbOptChunkId *. */
extern List *dbopt_chunks_load(void);

/* The highest position that a cursor has passed; -1: there is none. */
extern int64 dbopt_positions_highest(void);

/*
 * No chunk of the cursor that a new snapshot sees has a lower seq, as far as
 * this process knows.  What it knows is to be forgotten when rows may have come
 * there otherwise than by a hand-out.
 */
extern int64 dbopt_chunks_floor(int32 cursor_id);
extern void dbopt_chunks_floors_forget(void);

#endif							/* DBOPT_PROGRESS_H */
