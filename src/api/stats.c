/*
 * stats.c
 *		Statistics of handlers: SQL functions.
 *
 * Read from shared memory, without a query.  A handler's row is consistent in
 * itself; one that never ran has a row of zeros.
 */
#include "postgres.h"

#include "api/handler_rights.h"
#include "api/primary.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/stats.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define STATS_COLUMNS	21

/* A row that is being filled from left to right. */
typedef struct DbOptResultRow
{
	int			count;
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS];
} DbOptResultRow;

PG_FUNCTION_INFO_V1(dbopt_retry_stats);
PG_FUNCTION_INFO_V1(dbopt_reset_stats);

static void
add_value(DbOptResultRow *row, Datum value, bool isnull)
{
	Assert(row->count < STATS_COLUMNS);
	row->values[row->count] = value;
	row->nulls[row->count] = isnull;
	row->count++;
}

static void
add_text(DbOptResultRow *row, const char *text)
{
	add_value(row, text == NULL ? (Datum) 0 : CStringGetTextDatum(text),
			  text == NULL);
}

static void
add_count(DbOptResultRow *row, uint64 count)
{
	add_value(row, Int64GetDatum((int64) count), false);
}

static void
add_time(DbOptResultRow *row, TimestampTz time)
{
	add_value(row, TimestampTzGetDatum(time), time == 0);
}

static void
add_counters(DbOptResultRow *row, const DbOptCounters *counters)
{
	add_count(row, counters->attempts);
	add_count(row, counters->successes);
	add_count(row, counters->failures);
	add_count(row, counters->retries);
	add_count(row, counters->successes_after_retry);
	add_count(row, counters->dead_letters);
	add_count(row, counters->rejected);
}

/* Mean, quantiles and maximum; NULL when nothing was timed. */
static void
add_times(DbOptResultRow *row, const DbOptCounters *counters)
{
	static const double quantiles[] = {0.5, 0.95, 0.99};
	double		most = (double) counters->max_time;
	double		timed = 0;

	for (int i = 0; i < DBOPT_HISTOGRAM_BUCKETS; i++)
		timed += (double) counters->times.buckets[i];

	add_value(row, Float8GetDatum((double) counters->total_time /
								  Max(timed, 1) / 1000), timed == 0);
	for (int i = 0; i < lengthof(quantiles); i++)
	{
		double		time = dbopt_histogram_quantile(&counters->times,
													quantiles[i]);

		add_value(row, Float8GetDatum(Min(time, most) / 1000), timed == 0);
	}
	add_value(row, Float8GetDatum(most / 1000), timed == 0);
}

/* The last error, when there is one and the caller may see it. */
static void
add_last_error(DbOptResultRow *row, const DbOptHandlerState *state,
			   bool visible)
{
	visible = visible && state->last_error_at != 0;
	add_text(row, visible ? state->last_error_code : NULL);
	add_text(row, visible ? state->last_error : NULL);
	add_time(row, state->last_error_at);
}

static void
put_handler(ReturnSetInfo *result, const DbOptHandler *handler)
{
	DbOptHandlerState state;
	DbOptResultRow row = {0};

	if (!dbopt_handler_copy(MyDatabaseId, handler->handler_id, &state))
		memset(&state, 0, sizeof(state));

	add_text(&row, handler->name);
	add_text(&row, handler->event_type);
	add_text(&row, dbopt_breaker_state_name(state.breaker.state));
	add_count(&row, pg_atomic_read_u32(&state.in_flight));
	add_counters(&row, &state.counters);
	add_times(&row, &state.counters);
	add_last_error(&row, &state, dbopt_handler_shows_errors(handler));
	add_time(&row, state.last_success_at);
	add_time(&row, state.stats_since);
	Assert(row.count == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values,
						 row.nulls);
}

/* dbopt_retry_stats() -> a row for each registered handler */
Datum
dbopt_retry_stats(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, dbopt_config_get()->handlers)
		put_handler((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	return (Datum) 0;
}

/* dbopt_reset_stats() -> void */
Datum
dbopt_reset_stats(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	dbopt_require_preload();
	dbopt_require_primary(fcinfo);
	foreach(cell, dbopt_config_get()->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		dbopt_stats_reset(dbopt_handler_find(MyDatabaseId,
											 handler->handler_id));
	}
	PG_RETURN_VOID();
}
