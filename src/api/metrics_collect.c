/*
 * metrics_collect.c
 *		What is measured: counters, gauges and histograms of this database.
 *
 * Run by whoever scrapes.  Everything is copied out of shared memory under the
 * locks that protect it; no table is read but the handlers' names, which are
 * cached.  The labels are bounded: one value for each registered handler.
 */
#include "postgres.h"

#include "api/metrics.h"
#include "commands/dbcommands.h"
#include "engine/config.h"
#include "engine/legible.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/guc.h"
#include "state/pool_load.h"
#include "utils/builtins.h"

#define DATABASE_BREAKER	"database"

/*
 * Upper bounds of the buckets that are shown; each is also one of
 * DbOptHistogram's, of which it has every fourth.
 */
static const struct
{
	int64		microseconds;
	const char *seconds;
}			bounds[] = {
	{INT64CONST(1) << 7, "0.000128"},
	{INT64CONST(1) << 9, "0.000512"},
	{INT64CONST(1) << 11, "0.002048"},
	{INT64CONST(1) << 13, "0.008192"},
	{INT64CONST(1) << 15, "0.032768"},
	{INT64CONST(1) << 17, "0.131072"},
	{INT64CONST(1) << 19, "0.524288"},
	{INT64CONST(1) << 21, "2.097152"},
	{INT64CONST(1) << 23, "8.388608"},
	{INT64CONST(1) << 25, "33.554432"},
	{INT64CONST(1) << 27, "134.217728"}
};

/* A scrape that is under way. */
typedef struct Scrape
{
	DbOptMetricSink *sink;
	DbOptLabels base;
	int			nhandlers;
	DbOptHandlerState *states;	/* of the handlers, then of the breaker
								 * "database" */
	DbOptLabels *labels;		/* of these */
	DbOptPoolLoad load;
	DbOptPoolLimits limits;
	DbOptDatabase *database;	/* a copy; all zero: there is none */
} Scrape;

/* ---- reading ------------------------------------------------------------- */

static DbOptLabels
labels_with(const DbOptLabels *labels, const char *name, const char *value)
{
	DbOptLabels more = *labels;

	Assert(more.count < DBOPT_MAX_LABELS);
	more.names[more.count] = name;
	more.values[more.count] = value;
	more.count++;
	more.text = NULL;
	return more;
}

static void
read_state(Scrape *scrape, int number, int32 handler_id, const char *name)
{
	(void) dbopt_handler_copy(MyDatabaseId, handler_id,
							  &scrape->states[number]);
	scrape->labels[number] = labels_with(&scrape->base, "handler",
										 dbopt_legible(name));
}

static void
read_handlers(Scrape *scrape)
{
	const DbOptConfig *config = dbopt_config_get();
	int			size = list_length(config->handlers) + 1;
	ListCell   *cell;

	scrape->states = palloc0(sizeof(DbOptHandlerState) * size);
	scrape->labels = palloc0(sizeof(DbOptLabels) * size);
	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		read_state(scrape, scrape->nhandlers, handler->handler_id,
				   handler->name);
		scrape->nhandlers++;
	}
	read_state(scrape, scrape->nhandlers, 0, DATABASE_BREAKER);
}

static void
read_pool(Scrape *scrape)
{
	DbOptDatabase *database;

	dbopt_pool_load(MyDatabaseId, &scrape->load);
	scrape->limits = dbopt_pool_limits();
	scrape->database = palloc0(sizeof(DbOptDatabase));
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	database = dbopt_database_find(MyDatabaseId);
	if (database != NULL)
		*scrape->database = *database;
	LWLockRelease(dbopt_shared->lock);
}

/* ---- giving -------------------------------------------------------------- */

static void
put(Scrape *scrape, const DbOptMetric *metric, DbOptLabels *labels,
	double value)
{
	scrape->sink->sample(scrape->sink, metric, NULL, labels, NULL, NULL,
						 value);
}

/* A gauge or counter without labels of its own. */
static void
put_alone(Scrape *scrape, const char *name, DbOptMetricKind kind,
		  const char *help, double value)
{
	DbOptMetric metric = {name, kind, help};

	scrape->sink->family(scrape->sink, &metric);
	put(scrape, &metric, &scrape->base, value);
}

/* In seconds; the buckets are cumulative. */
static void
put_histogram(Scrape *scrape, const DbOptMetric *metric, DbOptLabels *labels,
			  const DbOptHistogram *histogram, double total)
{
	DbOptMetricSink *sink = scrape->sink;
	double		below = 0;
	int			bucket = 0;

	for (int i = 0; i < lengthof(bounds); i++)
	{
		while (dbopt_histogram_bound(bucket) <= bounds[i].microseconds)
			below += (double) histogram->buckets[bucket++];
		sink->sample(sink, metric, "bucket", labels, "le", bounds[i].seconds,
					 below);
	}
	while (bucket < DBOPT_HISTOGRAM_BUCKETS)
		below += (double) histogram->buckets[bucket++];
	sink->sample(sink, metric, "bucket", labels, "le", "+Inf", below);
	sink->sample(sink, metric, "sum", labels, NULL, NULL, total / 1e6);
	sink->sample(sink, metric, "count", labels, NULL, NULL, below);
}

/* ---- the pool ------------------------------------------------------------ */

static void
put_pool_events(Scrape *scrape)
{
	static const char *const names[] = {
		[DBOPT_POOL_ACQUIRE_REQUEST] = "acquireRequest",
		[DBOPT_POOL_ACQUIRE_SUCCESS] = "acquireSuccess",
		[DBOPT_POOL_ACQUIRE_FAIL] = "acquireFail",
		[DBOPT_POOL_RELEASE] = "release",
		[DBOPT_POOL_CREATE_REQUEST] = "createRequest",
		[DBOPT_POOL_CREATE_SUCCESS] = "createSuccess",
		[DBOPT_POOL_CREATE_FAIL] = "createFail",
		[DBOPT_POOL_DESTROY_REQUEST] = "destroyRequest",
		[DBOPT_POOL_DESTROY_SUCCESS] = "destroySuccess",
		[DBOPT_POOL_DESTROY_FAIL] = "destroyFail",
		[DBOPT_POOL_ERROR] = "error"
	};
	static const DbOptMetric metric = {
		"database.pool.events", DBOPT_METRIC_COUNTER,
		"What has happened to pool sessions, as in dbopt_pool_events()."
	};

	scrape->sink->family(scrape->sink, &metric);
	for (int i = 0; i < DBOPT_POOL_EVENTS; i++)
		scrape->sink->sample(scrape->sink, &metric, NULL, &scrape->base,
							 "event", names[i],
							 (double) pg_atomic_read_u64(&scrape->database->pool_events[i]));
}

static void
put_pool_times(Scrape *scrape)
{
	static const DbOptMetric acquire = {
		"database.pool.acquire.duration", DBOPT_METRIC_HISTOGRAM,
		"How long callers waited for the pool session that ran their SQL, in seconds."
	};
	static const DbOptMetric create = {
		"database.pool.create.duration", DBOPT_METRIC_HISTOGRAM,
		"How long pool sessions took to start, in seconds."
	};
	const DbOptDatabase *database = scrape->database;

	scrape->sink->family(scrape->sink, &acquire);
	put_histogram(scrape, &acquire, &scrape->base, &database->acquire_times,
				  (double) database->acquire_total);
	scrape->sink->family(scrape->sink, &create);
	put_histogram(scrape, &create, &scrape->base, &database->create_times,
				  (double) database->create_total);
}

/* The timeouts in force. */
static void
put_pool_timeouts(Scrape *scrape)
{
	const DbOptPoolLimits *limits = &scrape->limits;

	put_alone(scrape, "database.pool.idle_timeout", DBOPT_METRIC_GAUGE,
			  "How long a pool session above the minimum is kept without work, in seconds.",
			  limits->idle_timeout / 1000.0);
	put_alone(scrape, "database.pool.acquire_timeout", DBOPT_METRIC_GAUGE,
			  "How long a caller waits for a pool session, in seconds.",
			  limits->acquire_timeout / 1000.0);
	put_alone(scrape, "database.pool.create_timeout", DBOPT_METRIC_GAUGE,
			  "How long a new pool session may take to connect, in seconds.",
			  limits->create_timeout / 1000.0);
}

static void
put_pool(Scrape *scrape)
{
	const DbOptPoolLoad *load = &scrape->load;

	put_alone(scrape, "database.pool.connections.used", DBOPT_METRIC_GAUGE,
			  "Pool sessions at work.", load->used);
	put_alone(scrape, "database.pool.connections.free", DBOPT_METRIC_GAUGE,
			  "Pool sessions without work.", load->free);
	put_alone(scrape, "database.pool.connections.waiting", DBOPT_METRIC_GAUGE,
			  "Jobs that could run and have no session.", load->waiting);
	put_alone(scrape, "database.pool.connections.min", DBOPT_METRIC_GAUGE,
			  "Pool sessions that are kept.", scrape->limits.min);
	put_alone(scrape, "database.pool.connections.max", DBOPT_METRIC_GAUGE,
			  "Pool sessions that there may be.", scrape->limits.max);
	put_alone(scrape, "database.pool.utilization", DBOPT_METRIC_GAUGE,
			  "Pool sessions at work, in per cent of those that there may be.",
			  load->utilization);
	put_alone(scrape, "database.pool.health", DBOPT_METRIC_GAUGE,
			  "Health of the pool: 0 healthy, 1 degraded, 2 critical.",
			  load->health);
	put_pool_timeouts(scrape);
	put_pool_events(scrape);
	put_pool_times(scrape);
}

/* ---- handlers and breakers ----------------------------------------------- */

/* Counters that are a uint64 of DbOptHandlerState. */
typedef struct CounterMetric
{
	DbOptMetric metric;
	size_t		offset;
} CounterMetric;

#define COUNTER(name, field, help) \
	{{name, DBOPT_METRIC_COUNTER, help}, offsetof(DbOptHandlerState, field)}

static const CounterMetric handler_counters[] = {
	COUNTER("database.retry.attempt", counters.attempts,
			"Events tried by handlers, first tries and retries."),
	COUNTER("database.retry.success", counters.successes,
			"Events handled."),
	COUNTER("database.retry.failure", counters.failures,
			"Attempts that failed."),
	COUNTER("database.retry.retry", counters.retries,
			"Attempts that were not the first."),
	COUNTER("database.retry.success_after_retry",
			counters.successes_after_retry,
			"Events handled that had failed before."),
	COUNTER("database.retry.dead_letter", counters.dead_letters,
			"Events given up."),
	COUNTER("database.retry.rejected", counters.rejected,
			"Times that an open circuit breaker let nothing through.")
};

static const CounterMetric breaker_counters[] = {
	COUNTER("circuit_breaker.success", breaker.successes,
			"Successes that circuit breakers were told of."),
	COUNTER("circuit_breaker.failure", breaker.failures,
			"Failures that circuit breakers were told of."),
	COUNTER("circuit_breaker.rejected", breaker.rejected,
			"Times that circuit breakers let nothing through."),
	COUNTER("circuit_breaker.tripped", breaker.tripped,
			"Times that circuit breakers opened.")
};

/* The first "count" of the states. */
static void
put_counters(Scrape *scrape, const CounterMetric *counters, int ncounters,
			 int count)
{
	for (int i = 0; i < ncounters; i++)
	{
		scrape->sink->family(scrape->sink, &counters[i].metric);
		for (int j = 0; j < count; j++)
			put(scrape, &counters[i].metric, &scrape->labels[j],
				(double) *(const uint64 *) ((const char *) &scrape->states[j] +
											counters[i].offset));
	}
}

static void
put_handlers(Scrape *scrape)
{
	static const DbOptMetric in_flight = {
		"database.retry.in_flight", DBOPT_METRIC_GAUGE,
		"Events that sessions have taken and not settled."
	};
	static const DbOptMetric failure_rate = {
		"database.retry.failure_rate", DBOPT_METRIC_GAUGE,
		"Share of recent attempts that failed, 0 to 1; an attempt counts half as much after 13 others."
	};
	static const DbOptMetric duration = {
		"database.operation.duration", DBOPT_METRIC_HISTOGRAM,
		"How long handlers took for an event, in seconds."
	};

	put_counters(scrape, handler_counters, lengthof(handler_counters),
				 scrape->nhandlers);
	scrape->sink->family(scrape->sink, &in_flight);
	for (int i = 0; i < scrape->nhandlers; i++)
		put(scrape, &in_flight, &scrape->labels[i],
			pg_atomic_read_u32(&scrape->states[i].in_flight));
	scrape->sink->family(scrape->sink, &failure_rate);
	for (int i = 0; i < scrape->nhandlers; i++)
		put(scrape, &failure_rate, &scrape->labels[i],
			scrape->states[i].failure_rate);
	scrape->sink->family(scrape->sink, &duration);
	for (int i = 0; i < scrape->nhandlers; i++)
		put_histogram(scrape, &duration, &scrape->labels[i],
					  &scrape->states[i].counters.times,
					  (double) scrape->states[i].counters.total_time);
}

/* That of the database comes last. */
static void
put_breakers(Scrape *scrape)
{
	static const DbOptMetric state = {
		"circuit_breaker.state", DBOPT_METRIC_GAUGE,
		"State of circuit breakers: 0 closed, 1 open, 2 half-open."
	};
	int			count = scrape->nhandlers + 1;

	put_counters(scrape, breaker_counters, lengthof(breaker_counters), count);
	scrape->sink->family(scrape->sink, &state);
	for (int i = 0; i < count; i++)
		put(scrape, &state, &scrape->labels[i],
			scrape->states[i].breaker.state);
}

void
dbopt_metrics_collect(DbOptMetricSink *sink)
{
	Scrape		scrape = {.sink = sink};
	char	   *name = get_database_name(MyDatabaseId);

	scrape.base = labels_with(&scrape.base, "environment",
							  dbopt_environment_name());
	scrape.base = labels_with(&scrape.base, "datname",
							  name == NULL ? "" : dbopt_legible(name));
	read_handlers(&scrape);
	read_pool(&scrape);
	put_pool(&scrape);
	put_handlers(&scrape);
	put_breakers(&scrape);
}
