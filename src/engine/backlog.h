/*
 * backlog.h
 *		How many events of a cursor are not delivered.
 */
#ifndef DBOPT_BACKLOG_H
#define DBOPT_BACKLOG_H

#include "datatype/timestamp.h"
#include "engine/cursor.h"

#define DBOPT_WAITING_EXACT	10000	/* events counted one by one, at most */
#define DBOPT_WAITING_PASSED 100	/* processed ones that a look for the
									 * oldest passes over, at most */

typedef struct DbOptWaiting
{
	int64		events;			/* in chunks that are not settled, in the
								 * cursor's holes, and behind it */
	bool		exact;			/* counted; else an estimate, above
								 * DBOPT_WAITING_EXACT */
	bool		has_oldest;		/* something waits and tells its time */
	TimestampTz oldest;			/* of the first one of them */
} DbOptWaiting;

/* A source whose log is open, and the snapshot that it is read with. */
typedef struct DbOptBacklogRead DbOptBacklogRead;

/* Two events with the same key and log position, which no hand-out takes. */
typedef enum DbOptDoubled
{
	DBOPT_DOUBLED_COUNT,
	DBOPT_DOUBLED_RAISE			/* 21000 */
} DbOptDoubled;

/*
 * Opens a source's log for as many of its cursors as are to be looked at; NULL:
 * it cannot be read at present, and there is nothing to end.
 */
extern DbOptBacklogRead *dbopt_backlog_read_begin(const DbOptSource *source,
												  DbOptDoubled doubled);
extern void dbopt_backlog_read_end(DbOptBacklogRead *reading);

/*
 * Counts a cursor's events, on a mark_processed source those that are not
 * processed.  The time is that of the column created_at or event_timestamp;
 * log positions are no times.  false: the cursor is gone.
 */
extern bool dbopt_waiting_count(const DbOptBacklogRead *reading,
								const DbOptCursor *cursor,
								DbOptWaiting *waiting);

/*
 * The same for the first one alone, which takes a few index entries to find:
 * only has_oldest, oldest and exact (false: there is one) are of use, and
 * behind many events that somebody else has processed none is found.
 */
extern bool dbopt_waiting_oldest(const DbOptBacklogRead *reading,
								 const DbOptCursor *cursor,
								 DbOptWaiting *waiting);

#endif							/* DBOPT_BACKLOG_H */
