/*
 * stream.h
 *		Running the events of a chunk one by one as they are read, in one
 *		subtransaction.
 */
#ifndef DBOPT_STREAM_H
#define DBOPT_STREAM_H

#include "engine/call.h"
#include "engine/slice.h"

typedef struct DbOptStream
{
	const DbOptSliceSource *source;
	DbOptCall  *call;
	DbOptPlace	from;			/* starts behind this place */
	int			limit;			/* runs at most so many events */

	/* Results, when the subtransaction has succeeded. */
	int			count;			/* events that were run */
	bool		at_end;			/* of the chunk */
	DbOptPlace	done;			/* run up to here, unless at_end */
} DbOptStream;

/* A DbOptExecFunction; its argument is a DbOptStream. */
extern void dbopt_stream_run(void *stream);

/*
 * Can the handler be called for events as they are read?  Not on a
 * mark_processed source: a row that is locked in a subtransaction and updated
 * outside of it needs a multixact.
 */
extern bool dbopt_stream_fits(const DbOptHandler *handler);

#endif							/* DBOPT_STREAM_H */
