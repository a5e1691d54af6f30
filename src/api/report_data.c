/*
 * report_data.c
 *		dbopt_report(): what more than one section shows.
 *
 * Tables and the functions that report are read as the extension's owner, so
 * that who may have the report needs no other right; what only some may see,
 * the texts of errors, is decided here by the rights of the caller.  Shared
 * memory is copied, each part under its own lock.
 */
#include "postgres.h"

#include "api/report.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/owner_spi.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/history.h"
#include "utils/timestamp.h"

static const char handlers_query[] =
"SELECT h.handler_id::bigint, h.name, left(h.event_type, 120), v.events, v.state,"
" left(v.reason, 300), v.paused::text,"
" (pg_has_role($1, h.role_oid, 'USAGE') OR pg_has_role($1, 'pg_read_all_stats'::name, 'USAGE'))::text,"
" coalesce(b.waiting, -1), b.retrying, b.dead, coalesce(b.lag, -1),"
" r.next_retry_at"
" FROM @extschema@.dbopt_handler h"
" JOIN @extschema@.dbopt_handlers v USING (name)"
" LEFT JOIN (SELECT handler, CASE WHEN bool_and(waiting IS NOT NULL) THEN sum(waiting)::bigint END AS waiting,"
" sum(retrying)::bigint AS retrying, sum(dead)::bigint AS dead,"
" (extract(epoch FROM max(lag)) * 1000000)::bigint AS lag"
" FROM @extschema@.dbopt_backlog() GROUP BY handler) b ON b.handler = h.name"
" LEFT JOIN (SELECT handler_id, min(next_retry_at) AS next_retry_at"
" FROM @extschema@.dbopt_retry_queue WHERE next_retry_at < 'infinity' GROUP BY handler_id) r USING (handler_id)";

static bool
column_is_true(uint64 row, int column)
{
	char	   *value = dbopt_owner_text(row, column);

	return value != NULL && strcmp(value, "true") == 0;
}

static void
read_handler(DbOptReportHandler *handler, uint64 row)
{
	bool		isnull;
	Datum		next_retry_at;

	handler->handler_id = (int32) dbopt_owner_int64(row, 1);
	handler->name = dbopt_owner_text(row, 2);
	handler->event_type = dbopt_owner_text(row, 3);
	handler->events = dbopt_owner_text(row, 4);
	handler->state = dbopt_owner_text(row, 5);
	handler->reason = dbopt_owner_text(row, 6);
	handler->paused = column_is_true(row, 7);
	handler->shows_errors = column_is_true(row, 8);
	handler->waiting = dbopt_owner_int64(row, 9);
	handler->retrying = dbopt_owner_int64(row, 10);
	handler->dead = dbopt_owner_int64(row, 11);
	handler->lag = dbopt_owner_int64(row, 12);
	next_retry_at = dbopt_owner_value(row, 13, &isnull);
	handler->next_retry_at = isnull ? 0 : DatumGetTimestampTz(next_retry_at);
}

static void
read_shared(DbOptReportHandler *handler, TimestampTz now)
{
	if (!dbopt_handler_copy(MyDatabaseId, handler->handler_id,
							&handler->shared))
		memset(&handler->shared, 0, sizeof(handler->shared));
	handler->in_flight = pg_atomic_read_u32(&handler->shared.in_flight);
	dbopt_handler_minutes_read(&handler->shared.minutes, now,
							   handler->minutes);
	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		handler->successes += handler->minutes[i].successes;
		handler->failures += handler->minutes[i].failures;
	}
}

/* Worst first: it cannot run; it is cut off; it gives up; it fails. */
static int
trouble_of(const DbOptReportHandler *handler)
{
	if (strcmp(handler->state, "ready") != 0)
		return 5;
	if (handler->shared.breaker.state != DBOPT_BREAKER_CLOSED)
		return 4;
	if (handler->dead > 0)
		return 3;
	if (handler->retrying > 0 || handler->failures > 0)
		return 2;
	return handler->paused ? 1 : 0;
}

static int
compare_handlers(const void *left, const void *right)
{
	const DbOptReportHandler *a = left;
	const DbOptReportHandler *b = right;

	if (a->trouble != b->trouble)
		return b->trouble - a->trouble;
	if (a->failures != b->failures)
		return a->failures < b->failures ? 1 : -1;
	if (a->successes != b->successes)
		return a->successes < b->successes ? 1 : -1;
	return strcmp(a->name, b->name);
}

static void
gather_handlers(DbOptReportPage *page)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(page->caller));
	page->nhandlers = (int) dbopt_owner_query(dbopt_sql(handlers_query),
											  &args);
	page->handlers = palloc0(Max(page->nhandlers, 1) *
							 sizeof(DbOptReportHandler));
	page->lag = -1;
	for (int i = 0; i < page->nhandlers; i++)
	{
		DbOptReportHandler *handler = &page->handlers[i];

		read_handler(handler, i);
		read_shared(handler, page->now);
		handler->trouble = trouble_of(handler);
		page->waiting += Max(handler->waiting, 0);
		page->retrying += handler->retrying;
		page->dead += handler->dead;
		page->lag = Max(page->lag, handler->lag);
	}
	qsort(page->handlers, page->nhandlers, sizeof(DbOptReportHandler),
		  compare_handlers);
}

static void
add_minute(DbOptReportHour *sum, const DbOptDatabaseMinute *minute)
{
	sum->successes += minute->successes;
	sum->failures += minute->failures;
	sum->dead_letters += minute->dead_letters;
	sum->used = Max(sum->used, minute->used);
	sum->waiting = Max(sum->waiting, minute->waiting);
	for (int bucket = 0; bucket < DBOPT_HISTOGRAM_BUCKETS; bucket++)
		sum->times.buckets[bucket] += minute->times[bucket];
}

static void
gather_hour(DbOptReportPage *page)
{
	DbOptDatabaseMinutes *ring = palloc(sizeof(DbOptDatabaseMinutes));

	dbopt_history_copy(MyDatabaseId, ring);
	dbopt_database_minutes_read(ring, page->now, page->minutes);
	pfree(ring);
	for (int i = 0; i < DBOPT_MINUTES; i++)
		add_minute(&page->hour, &page->minutes[i]);
}

static void
gather_pool(DbOptReportPage *page)
{
	dbopt_owner_query(dbopt_sql("SELECT used::bigint, free::bigint, waiting::bigint, max::bigint, health"
								" FROM @extschema@.dbopt_pool_stats()"),
					  NULL);
	page->pool.used = dbopt_owner_int64(0, 1);
	page->pool.free = dbopt_owner_int64(0, 2);
	page->pool.waiting = dbopt_owner_int64(0, 3);
	page->pool.max = dbopt_owner_int64(0, 4);
	page->pool.health = dbopt_owner_text(0, 5);
}

static void
gather_scheduler(DbOptReportPage *page)
{
	DbOptDatabase *database;

	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL && database->state == DBOPT_SCHEDULER_RUNNING)
		page->scheduler_pid = database->scheduler_pid;
	LWLockRelease(dbopt_shared->lock);
}

static void
gather_health(DbOptReportPage *page)
{
	page->nchecks = (int)
		dbopt_owner_query(dbopt_sql("SELECT check_name, status, detail FROM @extschema@.dbopt_health()"
									" ORDER BY check_name = 'overall' DESC,"
									" array_position('{critical,degraded}', status), check_name"),
						  NULL);
	if (page->nchecks == 0)
		elog(ERROR, "dbopt_health() has no row");
	page->checks = palloc(page->nchecks * sizeof(DbOptReportCheck));
	for (int i = 0; i < page->nchecks; i++)
	{
		page->checks[i].name = dbopt_owner_text(i, 1);
		page->checks[i].status = dbopt_owner_text(i, 2);
		page->checks[i].detail = dbopt_owner_text(i, 3);
	}
}

void
dbopt_report_gather(DbOptReportPage *page)
{
	gather_scheduler(page);
	gather_hour(page);
	gather_health(page);
	gather_pool(page);
	gather_handlers(page);
	if (!dbopt_handler_copy(MyDatabaseId, 0, &page->database_breaker))
		memset(&page->database_breaker, 0, sizeof(page->database_breaker));
}
