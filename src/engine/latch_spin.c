/*
 * latch_spin.c
 *		Waiting for one's latch awake, for a moment.
 *
 * Run by callers and sessions.  A latch that is set while its process is awake
 * costs neither side a system call.
 */
#include "postgres.h"

#include "engine/latch_spin.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/s_lock.h"

/*
 * About what it takes to be woken: a call of "SELECT 1", which is two wake-ups,
 * was measured at 83 microseconds asleep and 13 awake (doc/benchmarks.md).
 */
#define MOMENT			50		/* microseconds */

static bool
wait_awake(void)
{
	volatile Latch *latch = MyLatch;
	instr_time	start;
	instr_time	passed;

	INSTR_TIME_SET_CURRENT(start);
	do
	{
		if (latch->is_set)
			return true;
		SPIN_DELAY();
		INSTR_TIME_SET_CURRENT(passed);
		INSTR_TIME_SUBTRACT(passed, start);
	} while (INSTR_TIME_GET_MICROSEC(passed) < MOMENT);
	return false;
}

void
dbopt_latch_spin(DbOptSpin *spin)
{
	if (dbopt_spin_worthwhile(spin))
		dbopt_spin_note(spin, wait_awake());
}
