/*
 * index_timed.c
 *		Concurrent builds whose time is learned from.
 *
 * Run by pool sessions.  A build is reckoned before it begins, and held
 * against that when it is done; the time that it waited for other transactions
 * does not count, which a timer tells: it looks again and again what this
 * process is at.  Nothing of this may end a build: what fails here is left out.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/index_rate.h"
#include "engine/index_reckon.h"
#include "engine/index_timed.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LOOK_EVERY_MS	10

typedef struct TimedBuild
{
	const DbOptIndexTarget *target;
	Oid			relid;
	bool		reckoned;
	DbOptIndexSize size;
	double		taken_ms;
} TimedBuild;

/* ---- the time that is spent waiting -------------------------------------- */

static TimeoutId timer = MAX_TIMEOUTS;	/* MAX_TIMEOUTS: not registered */
static volatile sig_atomic_t waits_seen = 0;

/* In a signal handler. */
static void
look(void)
{
	uint32		wait = *(volatile uint32 *) my_wait_event_info;

	if ((wait & 0xFF000000) == PG_WAIT_LOCK)
		waits_seen++;
}

static void
watch_begin(void)
{
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, look);
	waits_seen = 0;
	enable_timeout_every(timer,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 LOOK_EVERY_MS),
						 LOOK_EVERY_MS);
}

double
dbopt_index_watch_end(void)
{
	if (timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	return (double) waits_seen * LOOK_EVERY_MS;
}

/* ---- before and after ---------------------------------------------------- */

static void
reckon(void *arg)
{
	TimedBuild *build = arg;

	build->reckoned = dbopt_index_reckon(build->target, build->relid,
										 &build->size);
}

static void
learn(void *arg)
{
	TimedBuild *build = arg;

	dbopt_index_rate_learn(build->target->shape->am, build->size.table_rows,
						   build->size.ms, build->taken_ms);
}

/* In a transaction of its own; a cancel is left to the build itself. */
static void
try_aside(DbOptExecFunction function, TimedBuild *build)
{
	MemoryContext context = CurrentMemoryContext;
	DbOptFailure failure;

	dbopt_exec_begin();
	if (dbopt_index_rate_kept() &&
		!dbopt_exec_try(function, build, 0, &failure))
		dbopt_index_pass_cancel(&failure);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

void
dbopt_index_create_timed(const DbOptIndexTarget *target, Oid relid,
						 const char *name, bool *built)
{
	TimedBuild	build = {.target = target,.relid = relid};
	instr_time	start;
	instr_time	end;

	try_aside(reckon, &build);
	watch_begin();
	INSTR_TIME_SET_CURRENT(start);
	*built = dbopt_index_create_concurrently(target, relid, name);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	build.taken_ms = INSTR_TIME_GET_MILLISEC(end) -
		dbopt_index_watch_end();
	if (*built && build.reckoned && build.taken_ms > 0)
		try_aside(learn, &build);
}
