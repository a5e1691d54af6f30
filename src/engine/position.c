/*
 * position.c
 *		Log positions, and which of them are still in progress.
 *
 * Run by whoever hands out or registers.  No locks.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "engine/position.h"

/*
 * The full id of a transaction that some snapshot of ours has seen: not more
 * than 2^31 before, and not behind, the next one.
 */
static int64
full_position(TransactionId xid, FullTransactionId next, int64 offset)
{
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (int64) ((((uint64) epoch) << 32) | xid) + offset;
}

static int
compare_positions(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Keeps one of each in a sorted array; returns how many those are. */
static int
remove_doubles(int64 *positions, int count)
{
	int			kept = 0;

	for (int i = 0; i < count; i++)
		if (kept == 0 || positions[kept - 1] != positions[i])
			positions[kept++] = positions[i];
	return kept;
}

/*
 * Of the in-progress list the top-level ids suffice, since positions are
 * stamped with those.  The backend's own is not in the list.  One that is just
 * being prepared may be there twice, for its backend and as a prepared
 * transaction: a hole that was kept twice would be handed out twice.
 */
void
dbopt_horizon_read(Snapshot snapshot, int64 position_offset,
				   DbOptHorizon *horizon)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId own = GetTopTransactionIdIfAny();

	horizon->limit = full_position(snapshot->xmax, next, position_offset);
	horizon->running = palloc(sizeof(int64) * (snapshot->xcnt + 1));
	horizon->nrunning = 0;
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		horizon->running[horizon->nrunning++] =
			full_position(snapshot->xip[i], next, position_offset);
	if (TransactionIdIsValid(own) && TransactionIdPrecedes(own, snapshot->xmax))
		horizon->running[horizon->nrunning++] =
			full_position(own, next, position_offset);
	qsort(horizon->running, horizon->nrunning, sizeof(int64),
		  compare_positions);
	horizon->nrunning = remove_doubles(horizon->running, horizon->nrunning);
}

int
dbopt_positions_upto(int64 position, const int64 *set, int count)
{
	int			low = 0,
				high = count;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (set[middle] <= position)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
dbopt_position_in(int64 position, const int64 *set, int count)
{
	int			upto = dbopt_positions_upto(position, set, count);

	return upto > 0 && set[upto - 1] == position;
}
