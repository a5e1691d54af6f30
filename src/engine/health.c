/*
 * health.c
 *		Is this database's delivery well?  The checks of what is in shared
 *		memory, and all of them together.
 *
 * Run by backends that report and by the scheduler, which tells of changes
 * (alert.c).  Slots are copied out under their locks first.  The thresholds are
 * in policy/health.c, in the settings dbopt.health_... and here, and all are
 * in doc/monitoring.md.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "engine/health.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/pool_load.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define NAMES_SHOWN		5

/* Of a handler's recent attempts, and how old the last failure may be. */
#define DEGRADED_FAILURE_RATE	0.5
#define CRITICAL_FAILURE_RATE	0.9
#define RECENT_US		(60 * USECS_PER_SEC)

/* ---- texts --------------------------------------------------------------- */

void
dbopt_health_add(DbOptHealthLook *look, const char *name, DbOptHealth status,
				 const char *format,...)
{
	MemoryContext previous = MemoryContextSwitchTo(look->context);
	DbOptCheck *check = palloc(sizeof(DbOptCheck));
	StringInfoData detail;
	int			needed;

	initStringInfo(&detail);
	for (;;)
	{
		va_list		args;

		va_start(args, format);
		needed = appendStringInfoVA(&detail, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&detail, needed);
	}
	check->name = name;
	check->status = status;
	check->detail = detail.data;
	look->checks = lappend(look->checks, check);
	MemoryContextSwitchTo(previous);
}

void
dbopt_names_add(DbOptNames *names, const char *name)
{
	names->count++;
	if (names->text == NULL)
		names->text = psprintf("\"%s\"", name);
	else if (names->count <= NAMES_SHOWN)
		names->text = psprintf("%s, \"%s\"", names->text, name);
}

char *
dbopt_names_text(const DbOptNames *names)
{
	if (names->count > NAMES_SHOWN)
		return psprintf("%s and %d more", names->text,
						names->count - NAMES_SHOWN);
	return names->text == NULL ? pstrdup("none") : names->text;
}

char *
dbopt_age_text(int64 microseconds)
{
	int64		seconds = microseconds / USECS_PER_SEC;

	if (seconds < 2 * SECS_PER_MINUTE)
		return psprintf(INT64_FORMAT " s", seconds);
	if (seconds < 2 * SECS_PER_HOUR)
		return psprintf(INT64_FORMAT " min", seconds / SECS_PER_MINUTE);
	return psprintf(INT64_FORMAT " h", seconds / SECS_PER_HOUR);
}

/* Some of them are degraded, all of them critical. */
static DbOptHealth
judge_share(int bad, int all)
{
	if (bad == 0)
		return DBOPT_HEALTHY;
	return bad < all ? DBOPT_DEGRADED : DBOPT_CRITICAL;
}

/* ---- the processes ------------------------------------------------------- */

/* What the database's slot says. */
typedef struct Processes
{
	bool		launcher;
	bool		slot;			/* there is one */
	DbOptSchedulerState state;
	TimestampTz started_at;		/* of the scheduler; 0: never */
	TimestampTz missing_since;	/* of what is not running */
	bool		wants_session;
	DbOptProbation probation;
	int			sessions_used;	/* slots, in the cluster */
} Processes;

static void
copy_processes(Processes *processes)
{
	DbOptDatabase *database;

	memset(processes, 0, sizeof(*processes));
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	processes->launcher = dbopt_shared->launcher_pid != 0;
	processes->missing_since = dbopt_shared->started_at;
	if (!processes->launcher)
		processes->missing_since = Max(dbopt_shared->started_at,
									   dbopt_shared->launcher_left_at);
	for (int i = 0; i < dbopt_shared->max_sessions; i++)
		if (OidIsValid(dbopt_session_slot(i)->dboid))
			processes->sessions_used++;
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
	{
		processes->slot = true;
		processes->state = database->state;
		processes->started_at = database->started_at;
		if (processes->launcher)
			processes->missing_since = database->missing_since;
		processes->wants_session =
			pg_atomic_read_u32(&database->wants_session) != 0;
		processes->probation = pg_atomic_read_u32(&database->probation);
	}
	LWLockRelease(dbopt_shared->lock);
}

static const char *
missing_scheduler(const Processes *processes)
{
	if (!processes->slot)
		return psprintf("there is none for this database; at most %d of the cluster have one",
						DBOPT_MAX_DATABASES);
	if (processes->wants_session)
		return "no background worker slot is free for it: consider increasing max_worker_processes";
	return processes->state == DBOPT_SCHEDULER_STARTING ? "it is starting" :
		"it has ended, and will be started again";
}

static void
check_scheduler(DbOptHealthLook *look, const Processes *processes)
{
	DbOptHealth missing =
	dbopt_health_of_absence(look->now - processes->missing_since);

	if (look->standby)
		dbopt_health_add(look, "scheduler", DBOPT_HEALTHY,
						 "this is a standby, where nothing runs until it is promoted");
	else if (!processes->launcher)
		dbopt_health_add(look, "scheduler", missing,
						 "the launcher is not running");
	else if (processes->slot && processes->state == DBOPT_SCHEDULER_RUNNING)
		dbopt_health_add(look, "scheduler", DBOPT_HEALTHY,
						 "running for %s",
						 dbopt_age_text(look->now - processes->started_at));
	else
		dbopt_health_add(look, "scheduler", missing, "%s",
						 missing_scheduler(processes));
}

static void
check_probation(DbOptHealthLook *look, const Processes *processes)
{
	if (look->standby || processes->probation == DBOPT_PROBATION_OVER)
		dbopt_health_add(look, "probation", DBOPT_HEALTHY,
						 "nothing is suspected of a crash");
	else if (processes->state != DBOPT_SCHEDULER_RUNNING)
		dbopt_health_add(look, "probation", DBOPT_DEGRADED,
						 "whether anything may have caused a crash is not known before the scheduler runs");
	else
		dbopt_health_add(look, "probation", DBOPT_DEGRADED,
						 "the server has crashed: what may have been the cause is run alone, the rest waits");
}

static void
check_pool(DbOptHealthLook *look, const DbOptPoolLoad *load)
{
	dbopt_health_add(look, "pool", load->health,
					 "%d of %d sessions are in use, %d jobs wait for one",
					 load->used, load->max, load->waiting);
}

static void
check_worker_slots(DbOptHealthLook *look, const Processes *processes,
				   const DbOptPoolLoad *load)
{
	if (processes->wants_session)
		dbopt_health_add(look, "worker_slots",
						 load->total == 0 ? DBOPT_CRITICAL : DBOPT_DEGRADED,
						 "no slot is free: %d of dbopt's %d are taken; the others may lack in max_worker_processes",
						 processes->sessions_used, dbopt_shared->max_sessions);
	else
		dbopt_health_add(look, "worker_slots", DBOPT_HEALTHY,
						 "%d of dbopt's %d are taken",
						 processes->sessions_used, dbopt_shared->max_sessions);
}

/* ---- handlers ------------------------------------------------------------ */

static void
copy_handlers(DbOptHealthLook *look)
{
	ListCell   *cell;

	look->nhandlers = 0;
	look->handlers = palloc(sizeof(DbOptHandler *) *
							(list_length(look->config->handlers) + 1));
	look->states = palloc0(sizeof(DbOptHandlerState) *
						   (list_length(look->config->handlers) + 1));
	foreach(cell, look->config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		look->handlers[look->nhandlers] = handler;
		(void) dbopt_handler_copy(MyDatabaseId, handler->handler_id,
								  &look->states[look->nhandlers]);
		look->nhandlers++;
	}
}

static void
check_paused(DbOptHealthLook *look)
{
	DbOptNames	paused = {0};

	for (int i = 0; i < look->nhandlers; i++)
		if (look->handlers[i]->paused)
			dbopt_names_add(&paused, look->handlers[i]->name);

	if (look->config->foreign_identity)
		dbopt_health_add(look, "paused", DBOPT_DEGRADED,
						 "the database was restored or copied, and is paused until dbopt_resume()");
	else if (look->config->paused)
		dbopt_health_add(look, "paused", DBOPT_DEGRADED,
						 "the database is paused: dbopt_resume() starts it");
	else if (paused.count > 0)
		dbopt_health_add(look, "paused", DBOPT_DEGRADED,
						 "handlers that are paused: %s",
						 dbopt_names_text(&paused));
	else
		dbopt_health_add(look, "paused", DBOPT_HEALTHY, "nothing is paused");
}

static void
check_breakers(DbOptHealthLook *look)
{
	DbOptHandlerState database;
	DbOptNames	open = {0};
	DbOptHealth status;

	for (int i = 0; i < look->nhandlers; i++)
		if (look->states[i].breaker.state != DBOPT_BREAKER_CLOSED)
			dbopt_names_add(&open, look->handlers[i]->name);
	status = judge_share(open.count, look->nhandlers);

	if (dbopt_handler_copy(MyDatabaseId, 0, &database) &&
		database.breaker.state != DBOPT_BREAKER_CLOSED)
	{
		dbopt_names_add(&open, "database");
		status = DBOPT_CRITICAL;
	}
	if (open.count > 0)
		dbopt_health_add(look, "breakers", status,
						 "open or on trial: %s", dbopt_names_text(&open));
	else
		dbopt_health_add(look, "breakers", DBOPT_HEALTHY, "all are closed");
}

/*
 * A handler most of whose recent attempts have failed, the last just now, and
 * whose retries are to come.
 */
static void
check_retry_storm(DbOptHealthLook *look)
{
	DbOptNames	stormy = {0};
	DbOptHealth worst = DBOPT_HEALTHY;
	double		highest = 0;

	for (int i = 0; i < look->nhandlers; i++)
	{
		DbOptHandlerState *state = &look->states[i];
		DbOptHealth status = dbopt_health_judge(state->failure_rate,
												DEGRADED_FAILURE_RATE,
												CRITICAL_FAILURE_RATE);

		if (status == DBOPT_HEALTHY ||
			look->now - state->last_error_at > RECENT_US ||
			pg_atomic_read_u64(&state->next_retry_at) == PG_INT64_MAX)
			continue;
		dbopt_names_add(&stormy, look->handlers[i]->name);
		worst = Max(worst, status);
		highest = Max(highest, state->failure_rate);
	}
	if (worst == DBOPT_HEALTHY)
		dbopt_health_add(look, "retry_storm", DBOPT_HEALTHY,
						 "no handler fails more often than it succeeds");
	else
		dbopt_health_add(look, "retry_storm", worst,
						 "up to %.0f%% of the recent attempts fail: %s",
						 highest * 100, dbopt_names_text(&stormy));
}

/* ---- all of it ----------------------------------------------------------- */

static void
add_overall(DbOptHealthLook *look)
{
	DbOptHealth worst = DBOPT_HEALTHY;
	DbOptNames	names = {0};
	ListCell   *cell;

	foreach(cell, look->checks)
	{
		DbOptCheck *check = lfirst(cell);

		worst = Max(worst, check->status);
		if (check->status != DBOPT_HEALTHY)
			dbopt_names_add(&names, check->name);
	}
	if (worst == DBOPT_HEALTHY)
		dbopt_health_add(look, "overall", worst, "all checks are healthy");
	else
		dbopt_health_add(look, "overall", worst, "not healthy: %s",
						 dbopt_names_text(&names));
}

List *
dbopt_health_look(void)
{
	DbOptHealthLook look = {.standby = RecoveryInProgress()};
	Processes	processes;
	DbOptPoolLoad load;

	look.context = CurrentMemoryContext;
	look.config = dbopt_config_get();
	look.now = GetCurrentTimestamp();
	copy_processes(&processes);
	dbopt_pool_load(MyDatabaseId, &load);
	copy_handlers(&look);

	check_scheduler(&look, &processes);
	check_probation(&look, &processes);
	check_pool(&look, &load);
	check_worker_slots(&look, &processes, &load);
	check_paused(&look);
	check_breakers(&look);
	check_retry_storm(&look);
	dbopt_health_look_stored(&look);
	add_overall(&look);
	return look.checks;
}
