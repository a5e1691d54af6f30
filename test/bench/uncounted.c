/*
 * uncounted.c
 *		Takes the place of the functions that count (state/stats.c) when
 *		bench.sh links a library to tell what counting costs: ld's --wrap.
 *
 * The engine sizes its chunks by a handler's mean time, which is a constant
 * here.
 */
#include "postgres.h"

#include "state/stats.h"

extern void __wrap_dbopt_tally_time(DbOptTally *tally, int64 microseconds);
extern void __wrap_dbopt_tally_times(DbOptTally *tally, int64 microseconds,
									 int events);
extern void __wrap_dbopt_stats_add(int slot, const DbOptTally *tally);
extern double __wrap_dbopt_stats_mean_time(int slot);

void
__wrap_dbopt_tally_time(DbOptTally *tally, int64 microseconds)
{
}

void
__wrap_dbopt_tally_times(DbOptTally *tally, int64 microseconds, int events)
{
}

void
__wrap_dbopt_stats_add(int slot, const DbOptTally *tally)
{
}

double
__wrap_dbopt_stats_mean_time(int slot)
{
	return 1;
}
