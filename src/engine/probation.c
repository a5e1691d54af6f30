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
 * suspects (probation_mark.c), knows when each of them may be run
 * (probation_list.c), and sends sessions to run them (suspect_job.c), one at
 * a time, while it has the turn.  Until those that are new to suspicion are
 * through, or have had their time, it assigns nothing else; and no scheduler
 * does until the launcher has seen that none is on probation any longer.
 *
 * What has crashed the server under observation waits for its policy's delay,
 * and takes the turn again when it is due: then all give way for it, but not
 * for ever.  Handlers that take long elsewhere put it off until they have ended
 * what they are at; they get no more before it has run (solo.h), so that each
 * can do that only once, or twice if another took much longer.
 *
 * Most of what is new to suspicion is innocent, and may take as long as it
 * likes: a group gets company after a while.  When the server crashes then,
 * that is one more reason to run its events one by one, and counts against none.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/locked.h"
#include "engine/probation.h"
#include "engine/probation_list.h"
#include "engine/suspect.h"
#include "pgstat.h"
#include "state/circuit.h"
#include "state/news.h"
#include "state/solo.h"
#include "utils/timestamp.h"

/*
 * Suspects that are new hold up everything for this long, all together; with
 * what it takes until they are known, delivery resumes within 5 s.
 */
#define GATE_US			(4 * USECS_PER_SEC)

/* A group runs alone for this long, once that is over. */
#define ALONE_US		(5 * USECS_PER_SEC)

/* Others are made to wait for this long for one that is to run alone. */
#define PATIENCE_US		(10 * USECS_PER_SEC)

/*
 * Then it is put off, until what is at work has ended, which is looked at this
 * often,
 */
#define STALL_US		(5 * USECS_PER_SEC)

/* or for this long, where nobody can tell when that will be. */
#define PUT_OFF_US		(60 * USECS_PER_SEC)

/*
 * Between turns others have theirs: of what is run one by one, and of groups
 * when the gate is open.
 */
#define REST_US			(500 * 1000)

static int	my_database;
static TimestampTz started_at;	/* after an unclean end; else 0 */
static TimestampTz gate_until;
static bool running = false;	/* a session that was sent for suspects: */
static bool sent_for_group;
static TimestampTz sent_at;
static TimestampTz wanted_since = 0;	/* the turn, or a session */
static TimestampTz rest_until = 0;
static bool stalling = false;	/* handlers, see dbopt_solo_stall() */
static TimestampTz stalled_until = 0;

static DbOptDatabase *
my_slot(void)
{
	return dbopt_database_slot(my_database);
}

static void
mark_suspects(int sessions)
{
	pgstat_report_activity(STATE_RUNNING, "marking suspects of a crash");
	dbopt_probation_mark(sessions);
	pg_atomic_write_u32(&my_slot()->probation, DBOPT_PROBATION_ON);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
dbopt_probation_begin(int database, int sessions)
{
	my_database = database;
	dbopt_probation_transaction_begin();
	dbopt_suspects_judge();
	dbopt_probation_transaction_end();
	if (pg_atomic_read_u32(&my_slot()->probation) == DBOPT_PROBATION_AHEAD)
		mark_suspects(sessions);
	if (pg_atomic_read_u32(&my_slot()->probation) == DBOPT_PROBATION_ON)
		started_at = GetCurrentTimestamp();
	dbopt_probation_delay_from(started_at);
	gate_until = GetCurrentTimestamp() + GATE_US;
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
	DbOptLane  *lane = dbopt_lane_find(dbopt_probation_handler(entry));
	TimestampTz blocked;

	if (lane == NULL || !lane->open)
		return false;
	blocked = dbopt_locked_until(lane->source_id, lane->handler_id);
	if (blocked == 0)
		blocked = dbopt_circuit_blocked_until(lane->slot);
	if (blocked != 0)
		*next = Min(*next, blocked);
	return blocked == 0;
}

/* Do all others wait for suspects that are new? */
static bool
gate_is_closed(TimestampTz now)
{
	return started_at != 0 && now < gate_until;
}

static TimestampTz
due_at(const DbOptSuspects *entry, TimestampTz now)
{
	TimestampTz at = Max(entry->due_at, stalled_until);

	return entry->suspicion == DBOPT_SUSPECT_GROUP && gate_is_closed(now) ?
		at : Max(at, rest_until);
}

static void
look(Outlook *outlook, TimestampTz now)
{
	ListCell   *cell;

	memset(outlook, 0, sizeof(*outlook));
	outlook->next = DBOPT_NEVER;
	foreach(cell, dbopt_probation_suspects())
	{
		DbOptSuspects *entry = lfirst(cell);
		TimestampTz at = due_at(entry, now);

		if (!is_runnable(entry, &outlook->next))
			continue;
		if (entry->suspicion == DBOPT_SUSPECT_GROUP && gate_is_closed(now))
			outlook->gate = true;
		if (at > now)
		{
			outlook->next = Min(outlook->next, at);
			continue;
		}
		outlook->due++;
		if (outlook->first == NULL ||
			entry->suspicion < outlook->first->suspicion ||
			(entry->suspicion == outlook->first->suspicion &&
			 at < due_at(outlook->first, now)))
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
propose(DbOptCandidates *candidates, const DbOptSuspects *entry,
		TimestampTz now)
{
	const DbOptLane *lane = dbopt_lane_find(dbopt_probation_handler(entry));
	DbOptCandidate *candidate = &candidates->items[0];

	memset(candidate, 0, sizeof(*candidate));
	candidate->job.kind = DBOPT_JOB_SUSPECTS;
	candidate->job.handler_id = lane->handler_id;
	candidate->job.cursor_id = entry->cursor_id;
	candidate->job.seq = entry->seq;
	candidate->job.in_group = entry->in_group;
	candidate->role = lane->role;
	candidate->priority = lane->priority;
	candidate->since = entry->due_at;
	candidate->first = now - wanted_since >= DBOPT_TURN_WAIT_US;
	candidate->due = true;
	candidates->count = 1;
	dbopt_probation_sent(entry);
	sent_for_group = entry->in_group;
	sent_at = now;
}

static void
unstall(void)
{
	if (stalling)
		dbopt_solo_unstall(my_database);
	stalling = false;
}

/* Until when the group that was sent runs alone. */
static TimestampTz
alone_until(void)
{
	return sent_at < gate_until ? gate_until : sent_at + ALONE_US;
}

/*
 * Does what runs still run alone?  Says when that may change, else gives the
 * turn back: until it has ended, no other suspects are run.
 */
static bool
runs_alone(TimestampTz now, TimestampTz *next)
{
	if (!running)
		return false;
	if (!sent_for_group)
		return true;
	if (now < alone_until())
	{
		*next = Min(*next, alone_until());
		return true;
	}
	unstall();
	dbopt_solo_share(my_database);
	return false;
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
 * when nobody is left to wait for them, or as long as it is for others of them.
 */
static void
watch_stalled(TimestampTz now)
{
	Outlook		outlook;

	if (!stalling || running || now < stalled_until)
		return;
	look(&outlook, now);
	if (outlook.first == NULL && outlook.next > now + REST_US)
		unstall();
	else if (outlook.first != NULL && dbopt_solo_stalled_at_work(my_database))
	{
		dbopt_solo_excuse(my_database);
		stalled_until = now + STALL_US;
	}
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
	bool		alone;
	bool		mine;

	watch_stalled(now);
	look(&outlook, now);
	alone = runs_alone(now, &candidates->next);
	report(outlook.gate || (alone && gate_is_closed(now)));
	candidates->due += outlook.due;
	candidates->next = Min(candidates->next, outlook.next);
	if (stalling && stalled_until > now)
		candidates->next = Min(candidates->next, stalled_until);
	mine = (alone || (!running && outlook.first != NULL)) &&
		dbopt_solo_take(my_database);
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
		propose(candidates, outlook.first, now);
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
	wanted_since = 0;
	rest_until = now + REST_US;
	dbopt_probation_ended(result->outcome == DBOPT_JOB_FAILED ?
						  result->retry_at : 0);
}
