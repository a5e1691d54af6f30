/*
 * cursor.h
 *		Cursors over the log: discovery, and what the scheduler needs to know
 *		at its start.  Handing out stands in handout.h.
 */
#ifndef DBOPT_CURSOR_H
#define DBOPT_CURSOR_H

#include "datatype/timestamp.h"
#include "engine/config.h"

typedef struct DbOptCursor
{
	int32		cursor_id;
	int32		source_id;
	int32		handler_id;		/* 0: shared, on a mark_processed source */
	char	   *event_type;
} DbOptCursor;

typedef struct DbOptChunkId
{
	int32		cursor_id;
	int64		seq;
} DbOptChunkId;

/* All of these in a transaction; results in the caller's memory context. */

/* Creates the cursors that a source's event types and handlers call for. */
extern int	dbopt_cursors_discover(const DbOptConfig *config,
								   const DbOptSource *source);

/* All cursors, as DbOptCursor *. */
extern List *dbopt_cursors_load(void);
extern DbOptCursor *dbopt_cursor_load(int32 cursor_id);

/* All chunks that are handed out and not settled, as DbOptChunkId *. */
extern List *dbopt_chunks_load(void);

/* When the handler's first retry is due; PG_INT64_MAX: it has none. */
extern TimestampTz dbopt_retry_first_due(int32 handler_id);

#endif							/* DBOPT_CURSOR_H */
