/*
 * cursor.h
 *		Cursors over the log: which there are, and where each one stands.
 *
 * A cursor is never updated: whoever moves it holds its lock, inserts the next
 * version and deletes the previous one.
 */
#ifndef DBOPT_CURSOR_H
#define DBOPT_CURSOR_H

#include "datatype/timestamp.h"
#include "engine/config.h"
#include "engine/log.h"
#include "storage/itemptr.h"
#include "utils/hsearch.h"

typedef struct DbOptCursor
{
	int32		cursor_id;
	int32		source_id;
	int32		handler_id;		/* 0: shared, on a mark_processed source */
	char	   *event_type;
} DbOptCursor;

/*
 * Where a cursor stands: everything up to and including "last" is handed out,
 * but for the positions in holes (ascending).  A hole that is being handed out
 * in pieces is handed out up to and including "partial"; it is in holes still.
 */
typedef struct DbOptVersion
{
	int32		cursor_id;
	int64		seq;
	ItemPointerData tid;
	DbOptPlace	last;
	int			nholes;
	int64	   *holes;
	bool		has_partial;
	DbOptPlace	partial;
} DbOptVersion;

/* All of these in a transaction; results in the caller's memory context. */

/*
 * Creates the cursors that a source's event types and handlers call for, adds
 * their number to *created and the types without a handler to "unwanted".
 * False: the log cannot be read at present.
 */
extern bool dbopt_cursors_discover(const DbOptConfig *config,
								   const DbOptSource *source, HTAB *unwanted,
								   int *created);

/* All cursors, as DbOptCursor *. */
extern List *dbopt_cursors_load(void);

/* The same, those of a source together. */
extern List *dbopt_cursors_by_source(void);
extern DbOptCursor *dbopt_cursor_load(int32 cursor_id);

/* Who gets the cursor's events now; NULL: nobody. */
extern DbOptHandler *dbopt_cursor_handler(const DbOptConfig *config,
										  const DbOptCursor *cursor);

/* The cursor's id; 0: there is none. */
extern int32 dbopt_cursor_find(int32 source_id, int32 handler_id,
							   const char *event_type, Snapshot snapshot);

/*
 * Makes the caller the only one to move the cursor until its transaction ends.
 * To be taken after the events table's lock and before the snapshot that the
 * version and the log are read with.  (A lock of the lock manager, not a row
 * lock: a look that finds nothing then needs no transaction id and writes
 * nothing.)
 */
extern void dbopt_cursor_lock(int32 cursor_id);

/* The version that the snapshot sees; false: the cursor is gone. */
extern bool dbopt_version_read(const DbOptLog *log, int32 cursor_id,
							   Snapshot snapshot, DbOptVersion *version);

/* The same without what takes the events table to understand. */
extern bool dbopt_version_peek(int32 cursor_id, Snapshot snapshot, int64 *seq,
							   int64 *last_position);
extern void dbopt_version_insert(Relation rel, const DbOptLog *log,
								 const DbOptVersion *version);
extern void dbopt_version_replace(const DbOptLog *log,
								  const DbOptVersion *previous,
								  const DbOptVersion *next);

/* Keys of places as our tables have them: text, NULL for a whole position. */
extern Datum dbopt_place_key(const DbOptLog *log, const DbOptPlace *place,
							 bool *isnull);
extern DbOptPlace dbopt_place_from(const DbOptLog *log, Datum position,
								   Datum key, bool key_is_null);

/* When the handler's first retry is due; PG_INT64_MAX: it has none. */
extern TimestampTz dbopt_retry_first_due(int32 handler_id);

#endif							/* DBOPT_CURSOR_H */
