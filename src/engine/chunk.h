/*
 * chunk.h
 *		A chunk: a part of one type's log that is handed out, as a row of
 *		dbopt_chunk, until it is settled.
 *
 * A chunk is either a range, the events behind "from" up to and including
 * "to" whose positions are not in exclude; or, with positions, the events at
 * those positions (holes that have ended), between the same bounds.
 */
#ifndef DBOPT_CHUNK_H
#define DBOPT_CHUNK_H

#include "engine/cursor.h"
#include "engine/log.h"
#include "storage/itemptr.h"

typedef struct DbOptChunk
{
	int32		cursor_id;
	int64		seq;
	DbOptPlace	from;
	DbOptPlace	to;
	int			nexclude;
	int64	   *exclude;		/* ascending */
	int			npositions;		/* 0: a range */
	int64	   *positions;		/* ascending */
	int			events;			/* how many were counted at hand-out */
	int			suspicion;		/* of a crash: suspect.h */
	ItemPointerData tid;		/* of its row, once it is locked */
} DbOptChunk;

extern void dbopt_chunk_insert(const DbOptLog *log, const DbOptChunk *chunk);

/*
 * Locks and reads a chunk's row.  False, touching nothing, when it is settled
 * or another session has it.
 */
extern bool dbopt_chunk_lock(const DbOptLog *log, int32 cursor_id, int64 seq,
							 DbOptChunk *chunk);

/*
 * All chunks of a cursor that the snapshot sees, as DbOptChunk *, not locked:
 * for those who only look.
 */
extern List *dbopt_chunks_of_cursor(const DbOptLog *log, int32 cursor_id,
									Snapshot snapshot);

/* A chunk's suspicion, not locked; -1: it is settled. */
extern int	dbopt_chunk_suspicion(int32 cursor_id, int64 seq);

/* The chunk is settled up to and including a place, or as a whole. */
extern void dbopt_chunk_advance(const DbOptLog *log, DbOptChunk *chunk,
								const DbOptPlace *done);
extern void dbopt_chunk_delete(const DbOptChunk *chunk);

/*
 * A walk over a chunk's events, from a place inside it.  The snapshot must be
 * newer than the lock on the chunk.
 */
typedef struct DbOptChunkWalk DbOptChunkWalk;

extern DbOptChunkWalk *dbopt_chunk_walk_begin(DbOptLog *log,
											  Snapshot snapshot,
											  const char *event_type,
											  const DbOptChunk *chunk,
											  const DbOptPlace *from,
											  DbOptLogWhat what);
extern bool dbopt_chunk_walk_next(DbOptChunkWalk *walk, DbOptLogEvent *event);
extern void dbopt_chunk_walk_end(DbOptChunkWalk *walk);

#endif							/* DBOPT_CHUNK_H */
