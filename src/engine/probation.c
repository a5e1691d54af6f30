/*
 * probation.c
 *		After an unclean end: what may have caused it is run first, with
 *		nothing else beside it.
 *
 * Run by the scheduler alone, in its own memory; what it shares with other
 * schedulers is the turn (solo.h) and the two flags "probation" in shared
 * memory.
 *
 * A scheduler that starts after an unclean end is on probation.  It marks the
 * suspects (suspect.c), and sends sessions to run them (suspect_job.c), one at
 * a time, while it has the turn.  Until those that are new to suspicion are
 * through, or have had their time, it assigns nothing else; and no scheduler
 * does until the launcher has seen that none is on probation any longer.
 *
 * What has crashed the server under observation waits for its policy's delay,
 * and takes the turn again when it is due: then all give way for it, but not
 * for ever.  Handlers that take long elsewhere put it off until they have ended
 * what they are at; they get no more before it has run (solo.h), so that each
 * can do that only once.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/config.h"
#include "engine/crew.h"
#include "engine/exec.h"
#include "engine/locked.h"
#include "engine/probation.h"
#include "engine/suspect.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "policy/backoff.h"
#include "state/circuit.h"
#include "state/news.h"
#include "state/solo.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Cursors that are locked in one transaction. */
#define CURSORS_AT_ONCE	50

/* Suspects that cannot be run hold up everything for this long. */
#define GATE_US			(30 * USECS_PER_SEC)

/* Others are made to wait for this long for one that is to run alone. */
#define PATIENCE_US		(10 * USECS_PER_SEC)

/*
 * Then it is put off, until what is at work has ended, which is looked at this
 * often,
 */
#define STALL_US		(5 * USECS_PER_SEC)

/* or for this long, where nobody can tell when that will be. */
#define PUT_OFF_US		(60 * USECS_PER_SEC)

/* Between turns of what is run one by one, others have theirs. */
#define REST_US			(500 * 1000)

/* The first run after a crash waits for its policy's delay, up to this. */
#define FIRST_DELAY_US	USECS_PER_SEC

static int	my_database;
static TimestampTz started_at;	/* after an unclean end; else 0 */
static TimestampTz gate_until;
static List *suspects = NIL;	/* of DbOptSuspects *, in a context of its own */
static MemoryContext suspects_context;
static bool doubt = true;
static bool running = false;	/* a session that was sent for suspects */
static TimestampTz wanted_since = 0;	/* the turn, or a session */
static TimestampTz rest_until = 0;
static bool stalling = false;	/* handlers, see dbopt_solo_stall() */
static TimestampTz stalled_until = 0;

static DbOptDatabase *
my_slot(void)
{
	return dbopt_database_slot(my_database);
}

/* ---- reading and marking ------------------------------------------------- */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

typedef struct HandOut
{
	const DbOptConfig *config;
	const DbOptCursor *cursor;
	int			sessions;
} HandOut;

static void
hand_out_cursor(void *arg)
{
	HandOut    *args = arg;

	dbopt_suspects_hand_out(args->config, args->cursor, args->sessions);
}

/* What fails here fails for a session, too, which will say so. */
static void
try_hand_out(const DbOptConfig *config, const DbOptCursor *cursor,
			 int sessions)
{
	HandOut		args = {config, cursor, sessions};
	DbOptFailure failure;

	(void) dbopt_exec_try(hand_out_cursor, &args, 0, &failure);
}

/*
 * Hands out anew what hand-outs that were lost may have held.  None overtakes a
 * restore, nor dbopt_pause().
 */
static void
hand_out(int sessions)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "dbopt probation",
												  ALLOCSET_DEFAULT_SIZES);
	List	   *cursors;
	int			done = 0;

	begin_transaction();
	MemoryContextSwitchTo(context);
	cursors = dbopt_config_get()->paused ? NIL : dbopt_cursors_load();
	end_transaction();
	while (done < list_length(cursors))
	{
		const DbOptConfig *config;

		begin_transaction();
		config = dbopt_config_get();
		for (int i = 0; i < CURSORS_AT_ONCE && done < list_length(cursors); i++)
			try_hand_out(config, list_nth(cursors, done++), sessions);
		end_transaction();
	}
	MemoryContextDelete(context);
}

static void
mark_suspects(int sessions)
{
	pgstat_report_activity(STATE_RUNNING, "marking suspects of a crash");
	hand_out(sessions);
	begin_transaction();
	if (!dbopt_config_get()->foreign_identity)
		dbopt_suspects_mark(sessions);
	end_transaction();
	pg_atomic_write_u32(&my_slot()->probation, DBOPT_PROBATION_ON);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
dbopt_probation_begin(int database, int sessions)
{
	my_database = database;
	suspects_context = AllocSetContextCreate(TopMemoryContext,
											 "dbopt suspects",
											 ALLOCSET_SMALL_SIZES);
	begin_transaction();
	dbopt_suspects_judge();
	end_transaction();
	if (pg_atomic_read_u32(&my_slot()->probation) == DBOPT_PROBATION_AHEAD)
		mark_suspects(sessions);
	if (pg_atomic_read_u32(&my_slot()->probation) == DBOPT_PROBATION_ON)
		started_at = GetCurrentTimestamp();
	gate_until = GetCurrentTimestamp() + GATE_US;
}

void
dbopt_probation_doubt(void)
{
	doubt = true;
}

/* The handler that they are run by; 0: none. */
static int32
handler_of(const DbOptSuspects *entry)
{
	DbOptTrack *track;

	if (entry->cursor_id == 0)
		return entry->handler_id;
	track = dbopt_track_find(entry->cursor_id);
	return track == NULL ? 0 : track->handler_id;
}

/* What has just crashed the server is not run again at once. */
static void
delay(DbOptSuspects *entry, const DbOptConfig *config)
{
	DbOptHandler *handler = dbopt_config_handler(config, handler_of(entry));
	int64		after;

	if (handler == NULL || started_at == 0)
		return;
	after = dbopt_backoff_base(&handler->policy->backoff, entry->suspicion);
	if (entry->suspicion == DBOPT_SUSPECT_GROUP)
		after = Min(after, FIRST_DELAY_US);
	entry->due_at = Max(entry->due_at, started_at + after);
}

void
dbopt_probation_read(TimestampTz now)
{
	MemoryContext previous = CurrentMemoryContext;
	const DbOptConfig *config;
	ListCell   *cell;

	if (!doubt)
		return;
	doubt = false;
	MemoryContextReset(suspects_context);
	begin_transaction();
	config = dbopt_config_get();
	MemoryContextSwitchTo(suspects_context);
	suspects = dbopt_suspects_load();
	foreach(cell, suspects)
		delay(lfirst(cell), config);
	end_transaction();
	MemoryContextSwitchTo(previous);
}

/* ---- whose turn it is ---------------------------------------------------- */

/* What the suspects come to at present. */
typedef struct Outlook
{
	DbOptSuspects *first;		/* to be run now; NULL: none */
	bool		gate;			/* everything else waits for some of them */
	int			due;
	TimestampTz next;			/* when more are due */
} Outlook;

/* May they be run, but for their time? */
static bool
is_runnable(const DbOptSuspects *entry, TimestampTz *next)
{
	DbOptLane  *lane = dbopt_lane_find(handler_of(entry));
	TimestampTz blocked;

	if (lane == NULL || !lane->open)
		return false;
	blocked = dbopt_locked_until(lane->source_id);
	if (blocked == 0)
		blocked = dbopt_circuit_blocked_until(lane->slot);
	if (blocked != 0)
		*next = Min(*next, blocked);
	return blocked == 0;
}

static TimestampTz
due_at(const DbOptSuspects *entry)
{
	TimestampTz at = Max(entry->due_at, stalled_until);

	return entry->suspicion == DBOPT_SUSPECT_GROUP ? at : Max(at, rest_until);
}

static void
look(Outlook *outlook, TimestampTz now)
{
	ListCell   *cell;

	memset(outlook, 0, sizeof(*outlook));
	outlook->next = DBOPT_NEVER;
	foreach(cell, suspects)
	{
		DbOptSuspects *entry = lfirst(cell);

		if (!is_runnable(entry, &outlook->next))
			continue;
		if (entry->suspicion == DBOPT_SUSPECT_GROUP && now < gate_until)
			outlook->gate = true;
		if (due_at(entry) > now)
		{
			outlook->next = Min(outlook->next, due_at(entry));
			continue;
		}
		outlook->due++;
		if (outlook->first == NULL ||
			entry->suspicion < outlook->first->suspicion ||
			(entry->suspicion == outlook->first->suspicion &&
			 due_at(entry) < due_at(outlook->first)))
			outlook->first = entry;
	}
	if (outlook->gate)
		outlook->next = Min(outlook->next, gate_until);
}

/* Those at work are asked for their sessions. */
static void
ask_to_yield(void)
{
	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state == DBOPT_SESSION_BUSY && !member->yield &&
			member->job.kind != DBOPT_JOB_SUSPECTS &&
			member->job.kind != DBOPT_JOB_SQL)
			dbopt_crew_ask_to_yield(member);
	}
}

/* Puts the suspects in the candidates' place. */
static void
propose(DbOptCandidates *candidates, const DbOptSuspects *entry)
{
	const DbOptLane *lane = dbopt_lane_find(handler_of(entry));
	DbOptCandidate *candidate = &candidates->items[0];

	memset(candidate, 0, sizeof(*candidate));
	candidate->job.kind = DBOPT_JOB_SUSPECTS;
	candidate->job.handler_id = lane->handler_id;
	candidate->job.cursor_id = entry->cursor_id;
	candidate->job.seq = entry->seq;
	candidate->role = lane->role;
	candidate->priority = lane->priority;
	candidate->since = entry->due_at;
	candidate->due = true;
	candidates->count = 1;
}

/*
 * The turn was wanted for too long, because others do not end or no session
 * can be had: these suspects are put off.
 */
static bool
lose_patience(DbOptSuspects *entry, TimestampTz now)
{
	if (wanted_since == 0)
		wanted_since = now;
	if (now - wanted_since < PATIENCE_US)
		return false;
	wanted_since = 0;
	if (dbopt_solo_is_quiet())
		entry->due_at = now + PUT_OFF_US;
	else
	{
		stalling = true;
		stalled_until = now + (dbopt_solo_stall(my_database) ?
							   STALL_US : PUT_OFF_US);
	}
	dbopt_solo_give_back(my_database);
	return true;
}

/*
 * Those who held up the suspects are waited for without the turn, and go on
 * when nobody is left to wait for them.
 */
static void
watch_stalled(TimestampTz now)
{
	Outlook		outlook;

	if (!stalling || running || now < stalled_until)
		return;
	look(&outlook, now);
	if (outlook.first == NULL && outlook.next > now + REST_US)
	{
		stalling = false;
		dbopt_solo_unstall(my_database);
	}
	else if (outlook.first != NULL && dbopt_solo_stalled_at_work(my_database))
		stalled_until = now + STALL_US;
}

/* Tells others when this database's probation is over. */
static void
report(bool on)
{
	uint32		state = on ? DBOPT_PROBATION_ON : DBOPT_PROBATION_OVER;

	if (pg_atomic_exchange_u32(&my_slot()->probation, state) != state)
		dbopt_launcher_wake();
}

void
dbopt_probation_choose(DbOptCandidates *candidates, TimestampTz now)
{
	Outlook		outlook;
	bool		mine;

	watch_stalled(now);
	look(&outlook, now);
	report(outlook.gate || (running && started_at != 0 && now < gate_until));
	candidates->due += outlook.due;
	candidates->next = Min(candidates->next, outlook.next);
	if (stalling && stalled_until > now)
		candidates->next = Min(candidates->next, stalled_until);
	mine = (running || outlook.first != NULL) && dbopt_solo_take(my_database);
	if (mine && !running && lose_patience(outlook.first, now))
	{
		candidates->next = now;
		mine = false;
	}
	if (!running && outlook.first == NULL)
	{
		wanted_since = 0;
		dbopt_solo_give_back(my_database);
	}
	if (mine || dbopt_solo_is_others(my_database))
		ask_to_yield();
	if (!mine)
		dbopt_solo_wake_owner();
	if (mine && !running && dbopt_solo_is_quiet())
		propose(candidates, outlook.first);
	else if (mine || outlook.gate || dbopt_solo_is_others(my_database) ||
			 pg_atomic_read_u32(&dbopt_shared->probation) != 0)
		candidates->count = 0;
	if (mine && !running)
		candidates->next = Min(candidates->next, wanted_since + PATIENCE_US);
}

void
dbopt_probation_assigned(void)
{
	running = true;
	wanted_since = 0;
}

void
dbopt_probation_finished(const DbOptJob *job, const DbOptJobResult *result,
						 TimestampTz now)
{
	running = false;
	doubt = true;
	wanted_since = 0;
	rest_until = now + REST_US;
	if (result->outcome == DBOPT_JOB_FAILED)
		rest_until = Max(rest_until, result->retry_at);
	gate_until = now + GATE_US;
}
