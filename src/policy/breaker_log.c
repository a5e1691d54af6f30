/*
 * breaker_log.c
 *		A breaker's last changes of state.
 *
 * Called under the lock of the breaker.
 */
#include "c.h"

#include "policy/breaker_log.h"

bool
dbopt_breaker_changed(const DbOptBreaker *before, const DbOptBreaker *after)
{
	return before->state != after->state ||
		before->tripped_by_hand != after->tripped_by_hand;
}

/* The opening whose trial is the log's last entry; NULL: none. */
static DbOptBreakerChange *
opening_on_trial(DbOptBreakerLog *log)
{
	DbOptBreakerChange *opening;

	if (log->count < 2 ||
		log->changes[log->count - 1].after != DBOPT_BREAKER_HALF_OPEN)
		return NULL;
	opening = &log->changes[log->count - 2];
	return opening->after == DBOPT_BREAKER_OPEN ? opening : NULL;
}

void
dbopt_breaker_log_add(DbOptBreakerLog *log, const DbOptBreaker *before,
					  const DbOptBreaker *after, int64 now)
{
	DbOptBreakerChange *opening = opening_on_trial(log);
	DbOptBreakerChange *change;

	if (opening != NULL && after->state == DBOPT_BREAKER_OPEN &&
		!after->tripped_by_hand)
	{
		opening->failed_trials++;
		log->count--;
		return;
	}

	if (log->count == DBOPT_BREAKER_CHANGES)
	{
		log->count--;
		memmove(&log->changes[0], &log->changes[1],
				sizeof(DbOptBreakerChange) * log->count);
	}
	change = &log->changes[log->count++];
	change->at = now;
	change->failed_trials = 0;
	change->before = (uint8) before->state;
	change->after = (uint8) after->state;
	change->by_hand = after->tripped_by_hand;
}
