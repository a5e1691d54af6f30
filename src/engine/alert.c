/*
 * alert.c
 *		Changes of the database's health, told by the log and by NOTIFY.
 *
 * Run by the scheduler alone, at the end of its rounds.  A glance at shared
 * memory and at the lanes, a few times within dbopt.alert_delay while there
 * are rounds, finds out whether something could be wrong; only then, and once
 * in a while when there is work, the database is looked at in a transaction
 * (health.h).  Where all is well and nothing happens there are no rounds, no
 * glances and no looks.
 *
 * A look waits for no lock and has a time limit, and the longer it has taken,
 * the later comes the next one; one that fails is logged, and is no reason to
 * stop delivering.  What was told last is kept in the
 * database's slot, so that a new scheduler does not tell it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "commands/async.h"
#include "commands/dbcommands.h"
#include "engine/alert.h"
#include "engine/exec.h"
#include "engine/health.h"
#include "engine/legible.h"
#include "engine/schedule.h"
#include "engine/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "state/guc.h"
#include "state/pool_load.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define CHANNEL			"dbopt_alert"
#define CLEAR_FACTOR	6		/* what is better has to last so much longer */
#define GLANCES			4		/* within dbopt.alert_delay */
#define MIN_STEP_US		10000
#define LOOK_TIMEOUT_US	USECS_PER_SEC
#define REST_FACTOR		20		/* a look costs at most one part in so many */
#define QUEUE_FULL		0.9		/* of the notification queue */

/* From here on a handler's recent failures are worth a look. */
#define FAILURE_RATE	0.5

static DbOptAlert alert;
static bool begun = false;
static bool doubt = true;		/* of what a glance does not see */
static bool unseen = false;		/* rounds since the last glance */
static TimestampTz glance_at = 0;
static TimestampTz looked_at = 0;
static TimestampTz look_at = DBOPT_NEVER;
static int64 rest = 0;			/* after the last look, us */
static TimestampTz work_since = 0;	/* 0: there is none */
static uint64 dead_letters = 0; /* counted by the lanes at the last glance */
static bool failing = false;	/* the last look has failed */

/* A look that is under way. */
typedef struct Look
{
	MemoryContext context;		/* of the round */
	List	   *checks;
	DbOptAlert	alert;			/* as it is after the look */
	char	   *message;		/* to be told; NULL: nothing */
	char	   *summary;		/* of it, for the log */
} Look;

void
dbopt_alert_doubt(void)
{
	doubt = true;
}

static DbOptAlertConfig
alert_config(void)
{
	int64		delay = (int64) dbopt_alert_delay * 1000;
	DbOptAlertConfig config = {delay, delay * CLEAR_FACTOR};

	return config;
}

static int64
step(void)
{
	return Max(Max(alert_config().raise_after / GLANCES, MIN_STEP_US), rest);
}

/* When nothing presses; at most once a second. */
static int64
leisure(void)
{
	return Max(Max(alert_config().clear_after, USECS_PER_SEC), rest);
}

/* ---- a glance ------------------------------------------------------------ */

/* Has a handler's trouble with its events left traces? */
static bool
lane_suspicious(const DbOptLane *lane, uint64 *letters)
{
	DbOptHandlerState *state;
	bool		suspicious;

	if (!lane->open)
		return true;			/* paused or broken */
	if (lane->slot < 0)
		return false;
	state = dbopt_handler_slot(lane->slot);
	SpinLockAcquire(&state->mutex);
	suspicious = state->breaker.state != DBOPT_BREAKER_CLOSED ||
		state->failure_rate >= FAILURE_RATE;
	*letters += state->counters.dead_letters;
	SpinLockRelease(&state->mutex);
	return suspicious;
}

static bool
lanes_suspicious(void)
{
	uint64		letters = 0;
	bool		suspicious = false;

	for (DbOptLane *lane = dbopt_lane_next(true); lane != NULL;
		 lane = dbopt_lane_next(false))
		if (lane_suspicious(lane, &letters))
			suspicious = true;
	if (letters != dead_letters)
		suspicious = true;
	dead_letters = letters;
	return suspicious;
}

static bool
glance(DbOptDatabase *database, TimestampTz now)
{
	DbOptPoolLoad load;
	bool		suspicious = doubt;

	glance_at = now + step();
	unseen = false;
	doubt = false;
	dbopt_pool_load(MyDatabaseId, &load);
	if (lanes_suspicious())
		suspicious = true;
	return suspicious || now - looked_at >= leisure() ||
		load.health != DBOPT_HEALTHY ||
		alert.told != DBOPT_HEALTHY || alert.observed != DBOPT_HEALTHY ||
		pg_atomic_read_u32(&database->wants_session) != 0 ||
		pg_atomic_read_u32(&database->probation) != DBOPT_PROBATION_OVER;
}

/* ---- a look -------------------------------------------------------------- */

/* {"database": ..., "status": ..., "checks": {...}}: names and statuses. */
static char *
alert_json(const Look *look, DbOptHealth before, TimestampTz now)
{
	char		at[MAXDATELEN + 1];
	char	   *database = get_database_name(MyDatabaseId);
	const char *separator = "";
	StringInfoData json;
	ListCell   *cell;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"database\": ");
	escape_json(&json, database == NULL ? "" : dbopt_legible(database));
	appendStringInfo(&json, ", \"environment\": \"%s\", \"status\": \"%s\", \"previous\": \"%s\", \"at\": \"%s\", \"checks\": {",
					 dbopt_environment_name(),
					 dbopt_health_name(look->alert.told),
					 dbopt_health_name(before),
					 JsonEncodeDateTime(at, TimestampTzGetDatum(now),
										TIMESTAMPTZOID, NULL));
	foreach(cell, look->checks)
	{
		DbOptCheck *check = lfirst(cell);

		if (check->status == DBOPT_HEALTHY || lnext(look->checks, cell) == NULL)
			continue;
		appendStringInfoString(&json, separator);
		escape_json(&json, check->name);
		appendStringInfo(&json, ": \"%s\"", dbopt_health_name(check->status));
		separator = ", ";
	}
	appendStringInfoString(&json, "}}");
	return json.data;
}

static void
look_at_health(void *arg)
{
	Look	   *look = arg;

	MemoryContextSwitchTo(look->context);
	look->checks = dbopt_health_look();
}

/* A queue that somebody has let fill up would make the commit fail. */
static void
notify(const char *message)
{
	if (DatumGetFloat8(OidFunctionCall0(F_PG_NOTIFICATION_QUEUE_USAGE)) <
		QUEUE_FULL)
		Async_Notify(CHANNEL, message);
}

/* In a transaction of its own; raises what goes wrong. */
static void
look_and_notify(void *arg)
{
	Look	   *look = arg;
	DbOptAlertConfig config = alert_config();
	DbOptHealth before = look->alert.told;
	DbOptFailure failure;
	TimestampTz now;

	dbopt_exec_begin();
	pgstat_report_activity(STATE_RUNNING, "looking at the health");
	MemoryContextSwitchTo(look->context);
	if (!dbopt_exec_try(look_at_health, look, LOOK_TIMEOUT_US, &failure))
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(failure.sqlstate[0], failure.sqlstate[1],
									   failure.sqlstate[2], failure.sqlstate[3],
									   failure.sqlstate[4])),
				 errmsg_internal("%s", failure.message)));
	now = GetCurrentTimestamp();
	if (dbopt_alert_observe(&look->alert, &config,
							((DbOptCheck *) llast(look->checks))->status, now))
	{
		look->message = alert_json(look, before, now);
		look->summary = psprintf("dbopt: health of database \"%s\" is %s, was %s",
								 get_database_name(MyDatabaseId),
								 dbopt_health_name(look->alert.told),
								 dbopt_health_name(before));
		notify(look->message);
	}
	CommitTransactionCommand();
}

/* The longer a look has taken, the longer there is none. */
static void
rest_after(TimestampTz started)
{
	int64		took = GetCurrentTimestamp() - started;

	rest = REST_FACTOR * Min(Max(took, 0), LOOK_TIMEOUT_US);
	glance_at = Max(glance_at, started + step());
}

/* What was told last, and what is told now. */
static void
tell(DbOptDatabase *database, const Look *look)
{
	pg_atomic_write_u32(&database->health_told, look->alert.told);
	ereport(dbopt_log_level,
			(errmsg_internal("%s", look->summary),
			 errdetail_log("%s", look->message),
			 errhint("dbopt_health() tells more.")));
}

static void
look(DbOptDatabase *database, TimestampTz now)
{
	Look		look = {.context = CurrentMemoryContext,.alert = alert};
	DbOptFailure failure;
	TimestampTz started = GetCurrentTimestamp();
	bool		succeeded = dbopt_exec_guard(look_and_notify, &look, &failure);

	MemoryContextSwitchTo(look.context);
	rest_after(started);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);	/* the scheduler may sleep for long now */
	looked_at = now;
	look_at = now + leisure();
	if (succeeded)
	{
		alert = look.alert;
		if (look.message != NULL)
			tell(database, &look);
		if (alert.observed != alert.told)
			look_at = now + step();
		else if (alert.told == DBOPT_HEALTHY && work_since == 0)
			look_at = DBOPT_NEVER;
	}
	else if (!failing)
		ereport(LOG,
				(errcode(MAKE_SQLSTATE(failure.sqlstate[0], failure.sqlstate[1],
									   failure.sqlstate[2], failure.sqlstate[3],
									   failure.sqlstate[4])),
				 errmsg("could not look at the health of the database: %s",
						failure.message)));
	failing = !succeeded;
}

/* ---- a round ------------------------------------------------------------- */

/* While there is work, it may be growing old. */
static void
note_work(bool work, TimestampTz now)
{
	bool		calm = alert.told == DBOPT_HEALTHY &&
	alert.observed == DBOPT_HEALTHY && !failing;

	if (work && work_since == 0)
	{
		work_since = now;
		look_at = Min(look_at, now + leisure());
	}
	else if (!work && work_since != 0)
	{
		work_since = 0;
		if (calm)
			look_at = DBOPT_NEVER;
	}
}

TimestampTz
dbopt_alert_round(DbOptDatabase *database, bool work, TimestampTz now)
{
	if (dbopt_alert_delay < 0)
		return DBOPT_NEVER;
	if (!begun)
		alert.told = alert.observed =
			(DbOptHealth) pg_atomic_read_u32(&database->health_told);
	begun = true;

	note_work(work, now);
	if (glance_at > now + step())
		glance_at = now;		/* the clock was set back */
	if (look_at <= now)
	{
		(void) glance(database, now);
		look(database, now);
	}
	else if (glance_at > now)
		unseen = true;
	else if (glance(database, now))
		look(database, now);
	return unseen ? Min(glance_at, look_at) : look_at;
}
