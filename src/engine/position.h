/*
 * position.h
 *		Log positions, and which of them are still in progress.
 *
 * A position is a transaction's full 64-bit id plus the database's offset.
 * Sets of positions are ascending arrays without doubles, searched by halves.
 */
#ifndef DBOPT_POSITION_H
#define DBOPT_POSITION_H

#include "utils/snapshot.h"

/*
 * A snapshot in terms of positions: everything below limit has ended but for
 * the positions in running, to which the caller's own transaction belongs.
 */
typedef struct DbOptHorizon
{
	int64		limit;
	int			nrunning;
	int64	   *running;		/* ascending, each once */
} DbOptHorizon;

extern void dbopt_horizon_read(Snapshot snapshot, int64 position_offset,
							   DbOptHorizon *horizon);
extern bool dbopt_position_in(int64 position, const int64 *set, int count);

/* How many of the set's first members are not above the position. */
extern int	dbopt_positions_upto(int64 position, const int64 *set, int count);

#endif							/* DBOPT_POSITION_H */
