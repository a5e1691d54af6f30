/*
 * progress.h
 *		What is stored of how far all cursors have come.
 */
#ifndef DBOPT_PROGRESS_H
#define DBOPT_PROGRESS_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

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
 * A scan of the cursor's chunks that a new snapshot sees, from the lowest seq
 * that any of them has as far as this process knows.  What it knows is to be
 * forgotten when rows may have come there otherwise than by a hand-out.
 */
extern SysScanDesc dbopt_chunks_scan(Relation rel, int32 cursor_id,
									 Snapshot snapshot);
extern void dbopt_chunks_floors_forget(void);

/*
 * One snapshot has shown the cursor's version and the chunks that are alive:
 * seq is the lowest of these or, if there are none, comes next after the
 * version's.  Not for a transaction that has deleted chunks.
 */
extern void dbopt_chunks_floor_raise(int32 cursor_id, int64 seq);

/* Forgets all when many more cursors are known than there are. */
extern void dbopt_chunks_floors_limit(int cursors);

#endif							/* DBOPT_PROGRESS_H */
