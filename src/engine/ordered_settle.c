/*
 * ordered_settle.c
 *		The order of an aggregate's events: what becomes of them.
 *
 * Run by pool sessions, under the locks and with the snapshot that ordered.c
 * has taken.  An event that may not run is written to dbopt_ordered and the
 * retry queue.  When one is delivered or given up, those behind it become due;
 * they are judged anew when they are claimed.
 */
#include "postgres.h"

#include "access/table.h"
#include "engine/ordered.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * An event behind one that has not been run is released by whoever runs that.
 * It is looked at again after this long, since that one may never come: its
 * row can be deleted, or become another handler's.
 */
#define LOOK_AGAIN_MS	10000

/* Is this event in the retry queue when the transaction ends? */
static bool
is_waiting(const DbOptOrderedEvent *event)
{
	switch (event->state)
	{
		case DBOPT_ORDERED_OPEN:
			return event->row != NULL;
		case DBOPT_ORDERED_DONE:
			return false;
		case DBOPT_ORDERED_FAILED:
			return event->event->retry_at != 0;
		case DBOPT_ORDERED_HELD:
			break;
	}
	return true;
}

static bool
is_behind_version(const DbOptOrderedEvent *event, Datum version)
{
	return dbopt_version_compare(version, event->version) < 0;
}

/* Does a lower version of its aggregate wait to be tried? */
static bool
is_behind_waiting(const DbOptOrdered *ordered, const DbOptOrderedEvent *event)
{
	const DbOptAggregate *aggregate = event->aggregate;

	if (aggregate->other != NULL &&
		is_behind_version(event, aggregate->other->version))
		return true;
	for (int i = 0; i < ordered->count; i++)
	{
		const DbOptOrderedEvent *own = &ordered->events[i];

		if (own->aggregate == aggregate && own != event && is_waiting(own) &&
			is_behind_version(event, own->version))
			return true;
	}
	return false;
}

bool
dbopt_ordered_may_run(DbOptOrdered *ordered, int i)
{
	DbOptOrderedEvent *event = &ordered->events[i];

	event->state = DBOPT_ORDERED_HELD;
	return event->aggregate == NULL ||
		(!event->behind_open && !is_behind_waiting(ordered, event));
}

void
dbopt_ordered_hold(DbOptOrdered *ordered, int i)
{
	ordered->events[i].state = DBOPT_ORDERED_HELD;
}

void
dbopt_ordered_done(DbOptOrdered *ordered, int i)
{
	ordered->events[i].state = DBOPT_ORDERED_DONE;
}

void
dbopt_ordered_failed(DbOptOrdered *ordered, int i, DbOptFailed *failed)
{
	ordered->events[i].event = failed;
	ordered->events[i].state = DBOPT_ORDERED_FAILED;
}

static void
write_row(DbOptOrdered *ordered, const DbOptOrderedEvent *event)
{
	DbOptOrderedRow row = {0};

	if (event->aggregate == NULL || event->row != NULL)
		return;
	row.handler_id = ordered->delivery->handler->handler_id;
	row.position = event->event->position;
	row.key = event->event->key;
	row.aggregate_type = event->aggregate->type;
	row.aggregate_id = event->aggregate->id;
	row.version = event->version;
	dbopt_ordered_row_insert(ordered->rel, &row);
}

/* When an event that is held back is to be looked at again. */
static TimestampTz
held_until(const DbOptOrdered *ordered, const DbOptOrderedEvent *event,
		   TimestampTz now)
{
	if (event->aggregate == NULL)
		return now;
	if (is_behind_waiting(ordered, event))
		return DT_NOEND;
	return event->behind_open ?
		TimestampTzPlusMilliseconds(now, LOOK_AGAIN_MS) : now;
}

static void
note_due(DbOptOrdered *ordered, TimestampTz at)
{
	DbOptDelivery *delivery = ordered->delivery;

	delivery->first_retry_at = Min(delivery->first_retry_at, at);
}

static void
settle_held(DbOptOrdered *ordered, DbOptQueue *queue,
			DbOptOrderedEvent *event, TimestampTz now)
{
	event->event->retry_at = held_until(ordered, event, now);
	if (event->event->queued)
		dbopt_queue_postpone(queue, event->event, event->event->retry_at);
	else
		dbopt_queue_put(queue, ordered->delivery->handler->handler_id,
						event->event, now);
	write_row(ordered, event);
	note_due(ordered, event->event->retry_at);
}

/*
 * One that was claimed and not reached, since the breaker has opened: it has
 * the time that it had, unless nothing is left that it could be behind.
 */
static void
settle_open(DbOptOrdered *ordered, DbOptQueue *queue,
			DbOptOrderedEvent *event, TimestampTz now)
{
	const DbOptFailed *failed = event->event;
	bool		untried = failed->attempts == 0;

	if (event->row == NULL || event->aggregate == NULL ||
		failed->retry_at <= now || is_behind_waiting(ordered, event))
		return;
	if (failed->retry_at == DT_NOEND || (untried && event->aggregate->moved))
		settle_held(ordered, queue, event, now);
}

static void
settle_event(DbOptOrdered *ordered, DbOptQueue *queue,
			 DbOptOrderedEvent *event, TimestampTz now)
{
	if (event->state == DBOPT_ORDERED_OPEN)
		settle_open(ordered, queue, event, now);
	else if (event->state == DBOPT_ORDERED_HELD)
		settle_held(ordered, queue, event, now);
	else if (is_waiting(event))
		write_row(ordered, event);
	else if (event->aggregate != NULL)
	{
		if (event->row != NULL)
			dbopt_ordered_row_delete(ordered->rel, &event->row->tid);
		event->aggregate->moved = true;
	}
}

/* Is one of the transaction's own events in front of this row? */
static bool
is_behind_own(const DbOptOrdered *ordered, const DbOptAggregate *aggregate,
			  const DbOptOrderedRow *row)
{
	for (int i = 0; i < ordered->count; i++)
	{
		const DbOptOrderedEvent *own = &ordered->events[i];

		if (own->aggregate == aggregate && is_waiting(own) &&
			dbopt_version_compare(own->version, row->version) < 0)
			return true;
	}
	return false;
}

/*
 * Makes another event of the aggregate due, unless one of the transaction's
 * own is in front of it, or it has a time of its own; false: it is not in the
 * queue any more, and the next one is to be seen to.
 */
static bool
release_row(DbOptOrdered *ordered, DbOptQueue *queue,
			const DbOptAggregate *aggregate, DbOptOrderedRow *row,
			TimestampTz now)
{
	if (is_behind_own(ordered, aggregate, row))
		return true;
	switch (dbopt_queue_release(queue,
								ordered->delivery->handler->handler_id,
								row->position, row->key, aggregate->moved,
								now))
	{
		case DBOPT_RELEASED_NONE:
			dbopt_ordered_row_delete(ordered->rel, &row->tid);
			return false;
		case DBOPT_RELEASED_DUE:
			note_due(ordered, now);
			break;
		case DBOPT_RELEASED_LATER:
			break;
	}
	return true;
}

/*
 * Makes the lowest other event of an aggregate due: whoever claims it takes
 * those behind it along (ordered_follow.c).  If all were made due, sessions
 * would claim some of them each, and only one could run its own.
 */
static void
release_others(DbOptOrdered *ordered, DbOptQueue *queue,
			   const DbOptAggregate *aggregate, TimestampTz now)
{
	int			seen = 0;

	for (int limit = aggregate->events + 1;; limit *= 2)
	{
		List	   *rows =
		dbopt_ordered_rows_lowest(ordered->delivery->handler->handler_id,
								  aggregate->type, aggregate->id,
								  ordered->snapshot, limit);

		for (; seen < list_length(rows); seen++)
		{
			DbOptOrderedRow *row = list_nth(rows, seen);

			if (!dbopt_ordered_is_own(ordered, row->position, row->key) &&
				release_row(ordered, queue, aggregate, row, now))
				return;
		}
		if (list_length(rows) < limit)
			return;
	}
}

void
dbopt_ordered_settle(DbOptOrdered *ordered, DbOptQueue *queue)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	for (int i = 0; i < ordered->count; i++)
		settle_event(ordered, queue, &ordered->events[ordered->order[i]], now);
	foreach(cell, ordered->aggregates)
	{
		DbOptAggregate *aggregate = lfirst(cell);

		if (aggregate->other != NULL)
			release_others(ordered, queue, aggregate, now);
	}
	UnregisterSnapshot(ordered->snapshot);
	table_close(ordered->rel, NoLock);
}
