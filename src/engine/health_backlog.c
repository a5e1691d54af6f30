/*
 * health_backlog.c
 *		How long has the oldest event waited that is to be delivered?
 *
 * Run by whoever looks (health.c).  A look costs a few index entries for each
 * cursor, and waits for no lock on an events table.
 */
#include "postgres.h"

#include "engine/backlog.h"
#include "engine/cursor.h"
#include "engine/health.h"
#include "engine/log.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* What the look for the oldest event that waits has found. */
typedef struct Backlog
{
	int64		age;			/* microseconds; -1: nothing waits */
	const DbOptHandler *handler;	/* whose it is */
	List	   *undated;		/* handlers whose events wait, and tell no
								 * time */
	DbOptNames	locked;			/* tables that could not be looked at */
} Backlog;

static void
note_age(Backlog *backlog, const DbOptHandler *handler, int64 age)
{
	if (age <= backlog->age)
		return;
	backlog->age = age;
	backlog->handler = handler;
}

/* NULL: it cannot be read, or not without waiting. */
static DbOptBacklogRead *
source_open(Backlog *backlog, const DbOptSource *source)
{
	char	   *name;

	if (dbopt_log_try_lock(source->relid, AccessShareLock))
		return dbopt_backlog_read_begin(source, DBOPT_DOUBLED_COUNT);
	name = get_rel_name(source->relid);
	dbopt_names_add(&backlog->locked, name == NULL ? "?" : name);
	return NULL;
}

/*
 * Each source is opened once, for all its cursors.  What a paused or broken
 * handler does not get has checks of its own.
 */
static void
look_at_events(const DbOptHealthLook *look, Backlog *backlog)
{
	const DbOptSource *source = NULL;
	DbOptBacklogRead *reading = NULL;
	ListCell   *cell;

	foreach(cell, dbopt_cursors_by_source())
	{
		DbOptCursor *cursor = lfirst(cell);
		DbOptHandler *handler = dbopt_cursor_handler(look->config, cursor);
		DbOptWaiting waiting;

		CHECK_FOR_INTERRUPTS();
		if (handler == NULL || !handler->usable || handler->paused)
			continue;
		if (handler->source != source)
		{
			dbopt_backlog_read_end(reading);
			source = handler->source;
			reading = source_open(backlog, source);
		}
		if (reading == NULL ||
			!dbopt_waiting_oldest(reading, cursor, &waiting))
			continue;
		if (waiting.has_oldest && !TIMESTAMP_NOT_FINITE(waiting.oldest))
			note_age(backlog, handler, look->now - waiting.oldest);
		else if (!waiting.exact)
			backlog->undated = list_append_unique_ptr(backlog->undated, handler);
	}
	dbopt_backlog_read_end(reading);
}

/* Retries are late from the time on for which they were planned. */
static void
look_at_retries(const DbOptHealthLook *look, Backlog *backlog)
{
	for (int i = 0; i < look->nhandlers; i++)
	{
		TimestampTz due = pg_atomic_read_u64(&look->states[i].next_retry_at);

		if (due != 0 && due < look->now && !look->handlers[i]->paused &&
			look->handlers[i]->usable &&
			look->states[i].breaker.state == DBOPT_BREAKER_CLOSED)
			note_age(backlog, look->handlers[i], look->now - due);
	}
}

/* What could not be judged, to stand behind what could be. */
static char *
describe_rest(const Backlog *backlog)
{
	DbOptNames	undated = {0};
	StringInfoData rest;
	ListCell   *cell;

	initStringInfo(&rest);
	foreach(cell, backlog->undated)
		dbopt_names_add(&undated, ((DbOptHandler *) lfirst(cell))->name);
	if (undated.count > 0)
		appendStringInfo(&rest, "; waiting without created_at or event_timestamp, for handlers %s",
						 dbopt_names_text(&undated));
	if (backlog->locked.count > 0)
		appendStringInfo(&rest, "; locked, and not looked at: %s",
						 dbopt_names_text(&backlog->locked));
	return rest.data;
}

void
dbopt_health_look_backlog(DbOptHealthLook *look)
{
	Backlog		backlog = {.age = -1};
	char	   *beside;

	if (look->config->paused)
	{
		dbopt_health_add(look, "backlog", DBOPT_HEALTHY,
						 "not looked at while the database is paused");
		return;
	}
	look_at_events(look, &backlog);
	look_at_retries(look, &backlog);
	beside = describe_rest(&backlog);
	if (backlog.age < 0)
		dbopt_health_add(look, "backlog", DBOPT_HEALTHY, "no event %s%s",
						 backlog.undated == NIL ? "waits" : "of known age waits",
						 beside);
	else
		dbopt_health_add(look, "backlog",
						 dbopt_health_of_age(backlog.age, dbopt_health_backlog_age),
						 "the oldest event waits for %s, for handler \"%s\"%s",
						 dbopt_age_text(backlog.age), backlog.handler->name,
						 beside);
}
