/*
 * log_line.c
 *		What dbopt says in the server log.
 *
 * Run by every process.  The lines that a handler may still have are counted
 * in its slot, under its spinlock, and under log_mutex where it has none.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "state/guc.h"
#include "state/log_line.h"
#include "state/news.h"
#include "storage/spin.h"
#include "utils/json.h"
#include "utils/timestamp.h"

static const char *const operations[] = {
	[DBOPT_LOG_EVENT_RETRY] = "event.retry",
	[DBOPT_LOG_EVENT_GIVE_UP] = "event.give_up",
	[DBOPT_LOG_EVENT_NOTE] = "event.note",
	[DBOPT_LOG_SQL_RETRY] = "sql.retry",
	[DBOPT_LOG_SQL_GIVE_UP] = "sql.give_up",
	[DBOPT_LOG_HANDLER] = "handler",
	[DBOPT_LOG_JOB] = "job.retry",
	[DBOPT_LOG_BREAKER_CLOSED] = "breaker.closed",
	[DBOPT_LOG_BREAKER_TRIAL] = "breaker.trial",
	[DBOPT_LOG_BREAKER_OPENED] = "breaker.opened",
	[DBOPT_LOG_POOL] = "pool",
	[DBOPT_LOG_INDEX] = "index"
};

/* ---- the detail ---------------------------------------------------------- */

static void
add_name(StringInfo json, const char *name)
{
	if (json->len > 1)
		appendStringInfoString(json, ", ");
	escape_json(json, name);
	appendStringInfoString(json, ": ");
}

static void
add_text(StringInfo json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	add_name(json, name);
	escape_json(json, value);
}

static void
add_milliseconds(StringInfo json, const char *name, int64 microseconds)
{
	add_name(json, name);
	appendStringInfo(json, "%.3f", (double) microseconds / 1000);
}

static char *
make_detail(const DbOptLogLine *line)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	add_text(&json, "environment", dbopt_environment_name());
	add_text(&json, "operation", operations[line->kind]);
	add_text(&json, "handler", line->handler);
	add_text(&json, "event_id", line->event_id);
	add_text(&json, "event_type", line->event_type);
	if (line->attempt > 0)
	{
		add_name(&json, "attempt");
		appendStringInfo(&json, "%d", line->attempt);
	}
	add_text(&json, "sqlstate", line->sqlstate);
	if (line->duration > 0)
		add_milliseconds(&json, "duration_ms", line->duration);
	if (line->delay > 0)
		add_milliseconds(&json, "delay_ms", line->delay);
	if (line->left_out > 0)
	{
		add_name(&json, "left_out");
		appendStringInfo(&json, UINT64_FORMAT, line->left_out);
	}
	if (line->subject != NULL)
		add_text(&json, line->subject, line->subject_value);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* ---- how many ------------------------------------------------------------ */

/* Has the scheduler look again when the time is over. */
static void
announce_left_out(void)
{
	DbOptDatabase *database;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
		pg_atomic_write_u32(&database->lines_left_out, 1);
	LWLockRelease(dbopt_shared->lock);
	dbopt_scheduler_wake(MyDatabaseId);
}

/* A slot's budgets, or those of all that have none. */
static DbOptLogBudget *
get_budgets(int slot, slock_t **mutex)
{
	if (slot < 0)
	{
		*mutex = &dbopt_shared->log_mutex;
		return dbopt_shared->log_budgets;
	}
	*mutex = &dbopt_handler_slot(slot)->mutex;
	return dbopt_handler_slot(slot)->log_budgets;
}

bool
dbopt_log_permits(int slot, DbOptLogKind kind)
{
	TimestampTz now = GetCurrentTimestamp();
	DbOptLogBudget *budget;
	slock_t    *mutex;
	bool		permitted;
	bool		first;

	if (dbopt_shared == NULL)
		return true;
	budget = &get_budgets(slot, &mutex)[kind];
	SpinLockAcquire(mutex);
	if (budget->since + DBOPT_LOG_PERIOD_US <= now || budget->since > now)
	{
		budget->since = now;
		budget->lines = 0;
		budget->left_out_before += budget->left_out;
		budget->left_out = 0;
	}
	permitted = budget->lines < DBOPT_LOG_LINES;
	if (permitted)
		budget->lines++;
	else
		budget->left_out++;
	first = !permitted && budget->left_out == 1;
	SpinLockRelease(mutex);
	if (first)
		announce_left_out();
	return permitted;
}

/*
 * Takes what was left out in times that are over, of any kind.  Where lines keep
 * coming, the next time begins with the first of them.
 */
static uint64
take_left_out(int slot, DbOptLogKind kind, TimestampTz now, TimestampTz *next)
{
	slock_t    *mutex;
	DbOptLogBudget *budget = &get_budgets(slot, &mutex)[kind];
	TimestampTz over;
	uint64		left_out;

	SpinLockAcquire(mutex);
	left_out = budget->left_out_before;
	budget->left_out_before = 0;
	over = budget->since + DBOPT_LOG_PERIOD_US;
	if (budget->left_out > 0 && over > now)
		*next = Min(*next, over);
	else
	{
		left_out += budget->left_out;
		budget->left_out = 0;
	}
	SpinLockRelease(mutex);
	return left_out;
}

/* Of one handler; NULL: of those that have no slot. */
static void
tell_left_out(int slot, const char *handler, TimestampTz now,
			  TimestampTz *next)
{
	const char *whose = "of handlers without a slot";

	if (handler != NULL)
		whose = psprintf("of handler \"%s\"", handler);
	for (int kind = 0; kind < DBOPT_LOG_KINDS; kind++)
	{
		DbOptLogLine line = {.kind = kind,.slot = slot,.handler = handler};

		line.left_out = take_left_out(slot, kind, now, next);
		if (line.left_out == 0)
			continue;
		line.message = psprintf("%llu log lines \"%s\" %s were left out",
								(unsigned long long) line.left_out,
								operations[kind], whose);
		dbopt_log_write(&line);
	}
}

TimestampTz
dbopt_log_left_out(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	DbOptDatabase *database;
	bool		some = false;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
		some = pg_atomic_exchange_u32(&database->lines_left_out, 0) != 0;
	LWLockRelease(dbopt_shared->lock);
	for (int i = 0; some && i < dbopt_shared->max_handlers; i++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(i);
		NameData	name;
		Oid			dboid;

		LWLockAcquire(dbopt_shared->lock, LW_SHARED);
		dboid = state->dboid;
		name = state->name;
		LWLockRelease(dbopt_shared->lock);
		if (dboid == MyDatabaseId)
			tell_left_out(i, NameStr(name), now, &next);
	}
	if (some)
		tell_left_out(-1, NULL, now, &next);
	if (next != DT_NOEND)
		pg_atomic_write_u32(&database->lines_left_out, 1);
	return next;
}

/* ---- the line ------------------------------------------------------------ */

/*
 * Classes in which the message tells of values, or is somebody's own.
 */
const char *
dbopt_log_error_text(const char *sqlstate, const char *message)
{
	static const char *const withheld[] = {"22", "23", "P0"};

	for (int i = 0; i < lengthof(withheld); i++)
		if (strncmp(sqlstate, withheld[i], 2) == 0)
			return "(text withheld)";
	return message;
}

void
dbopt_log_write(const DbOptLogLine *line)
{
	char	   *detail;

	if (!message_level_is_interesting(dbopt_log_level))
		return;
	detail = make_detail(line);
	ereport(dbopt_log_level,
			(errmsg_internal("dbopt: %s", line->message),
			 errdetail_log("%s", detail),
			 line->hint != NULL ? errhint("%s", line->hint) : 0,
			 errhidestmt(true),
			 errhidecontext(true)));
	pfree(detail);
}

void
dbopt_log_line(const DbOptLogLine *line)
{
	if (dbopt_log_permits(line->slot, line->kind))
		dbopt_log_write(line);
}
