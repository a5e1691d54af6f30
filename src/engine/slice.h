/*
 * slice.h
 *		A slice of a chunk: the events of it that are in memory at once.
 */
#ifndef DBOPT_SLICE_H
#define DBOPT_SLICE_H

#include "engine/chunk.h"

#define DBOPT_SLICE_EVENTS	1000
#define DBOPT_SLICE_BYTES	(4 * 1024 * 1024)

typedef struct DbOptSlice
{
	int			count;
	Size		bytes;
	Datum		rows[DBOPT_SLICE_EVENTS];
	DbOptPlace	places[DBOPT_SLICE_EVENTS];
	bool		is_last;		/* the chunk ends with it */
} DbOptSlice;

/* What a slice is read from: a chunk that is locked. */
typedef struct DbOptSliceSource
{
	DbOptLog   *log;
	Snapshot	snapshot;
	const char *event_type;
	const DbOptChunk *chunk;
} DbOptSliceSource;

/*
 * Reads at most "limit" events behind "from" into the current memory context.
 * On a mark_processed source they are locked, and those that are processed
 * already are left out.
 */
extern void dbopt_slice_fetch(DbOptSlice *slice,
							  const DbOptSliceSource *source,
							  const DbOptPlace *from, int limit);

/* Is this the last place of the chunk? */
extern bool dbopt_slice_is_end(const DbOptSliceSource *source,
							   const DbOptPlace *place);

#endif							/* DBOPT_SLICE_H */
