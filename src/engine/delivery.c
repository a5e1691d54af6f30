/*
 * delivery.c
 *		Calling the handler under its breaker, and counting.
 *
 * Run by pool sessions.  Failures are reported to the breaker at once, so that
 * it opens in the middle of a chunk; successes when their transaction commits,
 * or before the next failure, so that it hears of results in their order.
 * They are counted in the statistics when their transaction has committed.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "engine/delivery.h"
#include "engine/fate.h"
#include "engine/own_locks.h"
#include "portability/instr_time.h"
#include "state/circuit.h"
#include "state/departure.h"
#include "state/log_line.h"
#include "state/pool.h"
#include "utils/timestamp.h"

typedef struct Attempt
{
	DbOptCall  *call;
	Datum	   *rows;
	int			count;
} Attempt;

LOCKMODE
dbopt_delivery_lock_mode(const DbOptSource *source)
{
	return source->mark_processed ? RowExclusiveLock : AccessShareLock;
}

/*
 * Whoever removes a handler, or changes whether it goes by order, had it locked
 * before we had; the scheduler knows soon what is to be done.
 */
static bool
try_lock_handler(const DbOptHandler *handler)
{
	const DbOptHandler *now;

	if (!dbopt_handler_lock(handler->handler_id, ShareLock, false))
		return false;
	now = dbopt_config_handler(dbopt_config_get(), handler->handler_id);
	return now != NULL && now->ordered == handler->ordered;
}

bool
dbopt_delivery_lock_table(DbOptDelivery *delivery)
{
	const DbOptHandler *handler = delivery->handler;
	const DbOptSource *source = handler->source;

	delivery->handler_locked = !try_lock_handler(handler);
	delivery->locked = delivery->handler_locked ||
		!dbopt_log_try_lock(source->relid, dbopt_delivery_lock_mode(source));
	return !delivery->locked;
}

void
dbopt_delivery_prepare(DbOptDelivery *delivery, DbOptCall *call,
					   const DbOptLog *log)
{
	const char *problem = dbopt_call_prepare(call, delivery->handler, log);

	delivery->broken = problem == NULL ? NULL :
		MemoryContextStrdup(delivery->context, problem);
}

bool
dbopt_delivery_admit(DbOptDelivery *delivery, int wanted)
{
	delivery->admission =
		dbopt_circuit_admit(delivery->slot,
							&delivery->handler->policy->breaker, wanted);
	delivery->unreported = delivery->admission.granted;
	if (delivery->unreported == 0)
		return false;
	dbopt_session_hold(delivery->slot, &delivery->admission);
	return true;
}

/* The events that had succeeded are still to be run. */
static void
roll_back_successes(DbOptDelivery *delivery)
{
	delivery->unreported += delivery->succeeded;
	delivery->succeeded = 0;
}

void
dbopt_delivery_release(DbOptDelivery *delivery)
{
	dbopt_departure_begin();
	roll_back_successes(delivery);
	if (delivery->unreported > 0)
		dbopt_circuit_release(delivery->slot, &delivery->admission,
							  delivery->unreported);
	delivery->unreported = 0;
	dbopt_session_release();
}

/* An event on trial goes on: its breaker waits for it. */
bool
dbopt_delivery_is_blocked(const DbOptDelivery *delivery)
{
	TimestampTz until = dbopt_circuit_blocked_until(delivery->slot);

	return until != 0 &&
		(!delivery->admission.trial || until != PG_INT64_MAX);
}

static void
call_handler(void *arg)
{
	Attempt    *attempt = arg;

	dbopt_call_rows(attempt->call, attempt->rows, attempt->count);
}

static void
reported(DbOptDelivery *delivery, int count)
{
	delivery->unreported = Max(delivery->unreported - count, 0);
}

static void
count_success(DbOptDelivery *delivery, int count, bool is_retry)
{
	DbOptCounters *counters = &delivery->tally.counters;

	counters->attempts += count;
	counters->successes += count;
	if (is_retry)
	{
		counters->retries += count;
		counters->successes_after_retry += count;
	}
	delivery->succeeded += count;
	reported(delivery, count);
}

static void
report_successes(DbOptDelivery *delivery)
{
	if (delivery->succeeded > 0)
		dbopt_circuit_success(delivery->slot, &delivery->admission,
							  delivery->succeeded);
	delivery->succeeded = 0;
}

static bool
is_retryable(const DbOptHandler *handler, const DbOptFailure *failure)
{
	const DbOptPolicy *policy = handler->policy;

	return dbopt_classify(policy->rules, policy->nrules,
						  policy->retry_unknown, failure->sqlstate,
						  failure->message);
}

void
dbopt_delivery_failed(DbOptDelivery *delivery, const DbOptFailure *failure)
{
	delivery->tally.counters.attempts++;
	delivery->tally.counters.failures++;
	dbopt_tally_error(&delivery->tally, failure->sqlstate, failure->message);
	report_successes(delivery);
	dbopt_circuit_failure(delivery->slot, &delivery->admission,
						  is_retryable(delivery->handler, failure));
	reported(delivery, 1);
}

void
dbopt_delivery_name_timeout(const DbOptDelivery *delivery,
							DbOptFailure *failure)
{
	if (failure->timed_out)
		failure->message = psprintf("handler \"%s\" was cancelled by its timeout of %lld ms",
									delivery->handler->name,
									(long long) (delivery->handler->timeout / 1000));
}

bool
dbopt_delivery_departed(const DbOptDelivery *delivery, int64 position,
						const char *key, DbOptFailure *failure)
{
	bool		starved;

	if (!dbopt_departure_take(delivery->slot, position, key, &starved))
		return false;
	memset(failure, 0, sizeof(*failure));
	strlcpy(failure->sqlstate, starved ? "53200" : "57P01",
			sizeof(failure->sqlstate));
	failure->message = psprintf(starved ?
								"handler \"%s\" left its session without memory when it ran this event" :
								"handler \"%s\" ended its session while it ran this event",
								delivery->handler->name);
	return true;
}

/* Runs in a subtransaction and takes the time. */
static bool
try_timed(DbOptDelivery *delivery, DbOptExecFunction function, void *arg,
		  instr_time *elapsed, DbOptFailure *failure)
{
	instr_time	start;
	bool		succeeded;

	dbopt_departure_calling(delivery->slot);
	INSTR_TIME_SET_CURRENT(start);
	succeeded = dbopt_exec_try(function, arg, delivery->handler->timeout,
							   failure);
	INSTR_TIME_SET_CURRENT(*elapsed);
	INSTR_TIME_SUBTRACT(*elapsed, start);
	if (!succeeded)
	{
		dbopt_delivery_name_timeout(delivery, failure);
		failure->duration = INSTR_TIME_GET_MICROSEC(*elapsed);
	}
	return succeeded;
}

bool
dbopt_delivery_try_function(DbOptDelivery *delivery,
							DbOptExecFunction function, void *arg,
							const int *count, DbOptFailure *failure)
{
	instr_time	elapsed;

	if (!try_timed(delivery, function, arg, &elapsed, failure))
		return false;
	if (*count > 0)
		dbopt_tally_times(&delivery->tally, INSTR_TIME_GET_MICROSEC(elapsed),
						  *count);
	count_success(delivery, *count, false);
	return true;
}

bool
dbopt_delivery_try(DbOptDelivery *delivery, DbOptCall *call, Datum *rows,
				   int count, bool is_retry, DbOptFailure *failure)
{
	Attempt		attempt = {call, rows, count};
	instr_time	elapsed;
	bool		succeeded = try_timed(delivery, call_handler, &attempt,
									  &elapsed, failure);

	if (succeeded || count == 1)
		dbopt_tally_times(&delivery->tally, INSTR_TIME_GET_MICROSEC(elapsed),
						  count);
	if (succeeded)
		count_success(delivery, count, is_retry);
	else if (count == 1)
	{
		dbopt_delivery_failed(delivery, failure);
		if (is_retry)
			delivery->tally.counters.retries++;
	}
	return succeeded;
}

/*
 * What the log is to say of this event when the transaction has committed; NULL:
 * nothing.  In the delivery's memory; the message is to be added.
 */
static DbOptLogLine *
note_line(DbOptDelivery *delivery, DbOptLogKind kind,
		  const DbOptFailed *failed, const DbOptFailure *failure)
{
	MemoryContext previous;
	DbOptLogLine *line;

	if (!dbopt_log_permits(delivery->slot, kind))
		return NULL;
	previous = MemoryContextSwitchTo(delivery->context);
	line = palloc0(sizeof(DbOptLogLine));
	line->kind = kind;
	line->handler = delivery->handler->name;
	line->event_id = pstrdup(failed->key);
	line->event_type = pstrdup(failed->event_type);
	line->attempt = failed->attempts;
	line->sqlstate = pstrdup(failure->sqlstate);
	line->duration = failure->duration;
	delivery->lines = lappend(delivery->lines, line);
	MemoryContextSwitchTo(previous);
	return line;
}

static void
note_fate(DbOptDelivery *delivery, const DbOptFailed *failed, int64 delay)
{
	DbOptLogKind kind = delay > 0 ? DBOPT_LOG_EVENT_RETRY :
	DBOPT_LOG_EVENT_GIVE_UP;
	DbOptLogLine *line = note_line(delivery, kind, failed, &failed->failure);

	if (line == NULL)
		return;
	line->delay = delay;
	line->message = MemoryContextStrdup(delivery->context,
										psprintf("an event of handler \"%s\" failed and %s",
												 delivery->handler->name,
												 delay > 0 ? "is tried again" :
												 "was given up"));
}

void
dbopt_delivery_not_noted(DbOptDelivery *delivery, const DbOptFailed *failed,
						 const DbOptFailure *failure)
{
	DbOptLogLine *line = note_line(delivery, DBOPT_LOG_EVENT_NOTE, failed,
								   failure);

	if (line == NULL)
		return;
	line->message = MemoryContextStrdup(delivery->context,
										psprintf("could not note a failure of handler \"%s\" beside its event",
												 delivery->handler->name));
}

void
dbopt_delivery_settle_failed(DbOptDelivery *delivery, DbOptQueue *queue,
							 DbOptFailed *failed)
{
	TimestampTz now = GetCurrentTimestamp();
	DbOptFate	fate;

	fate = dbopt_fate(delivery->handler, &failed->failure, failed->attempts,
					  dbopt_stats_failure_rate(delivery->slot),
					  pg_prng_double(&pg_global_prng_state), now);
	failed->retry_at = fate.retry_at;
	dbopt_queue_put(queue, delivery->handler->handler_id, failed, now);
	note_fate(delivery, failed, fate.retry_at == 0 ? 0 : fate.retry_at - now);
	if (fate.retry_at == 0)
		delivery->tally.counters.dead_letters++;
	else if (failed->suspicion == 0)
		delivery->first_retry_at = Min(delivery->first_retry_at,
									   fate.retry_at);
}

void
dbopt_delivery_begin(DbOptDelivery *delivery)
{
	memset(&delivery->tally, 0, sizeof(delivery->tally));
	delivery->first_retry_at = PG_INT64_MAX;
	delivery->lines = NIL;
}

void
dbopt_delivery_committed(DbOptDelivery *delivery)
{
	ListCell   *cell;

	report_successes(delivery);
	dbopt_stats_add(delivery->slot, &delivery->tally);
	if (delivery->first_retry_at != PG_INT64_MAX)
		dbopt_session_retry_at(delivery->slot, delivery->first_retry_at);
	foreach(cell, delivery->lines)
		dbopt_log_write(lfirst(cell));
	dbopt_delivery_begin(delivery);
	dbopt_departure_begin();
}

void
dbopt_delivery_commit_failed(DbOptDelivery *delivery, int calls,
							 const DbOptFailure *failure)
{
	if (calls == 0 || (calls > 1 && dbopt_exec_is_starved(failure)))
		dbopt_exec_raise_commit(failure);
	roll_back_successes(delivery);
}
