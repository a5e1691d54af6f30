/*
 * uuid.c
 *		dbopt_uuid_v7(): time-ordered identifiers.
 *
 * Run by every backend; takes no locks.  Within one backend each value is
 * greater than the one before, whatever the clock does.
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "utils/uuid.h"

#ifdef DBOPT_BUILTIN_UUID_V7
#include "utils/fmgrprotos.h"
#else
#include <time.h>
#endif

PG_FUNCTION_INFO_V1(dbopt_uuid_v7);

#ifdef DBOPT_BUILTIN_UUID_V7

Datum
dbopt_uuid_v7(PG_FUNCTION_ARGS)
{
	return uuidv7(fcinfo);
}

#else

#define NS_PER_MS	INT64CONST(1000000)

/* rand_a holds 12 bits of a millisecond: a step of it is about 244 ns. */
#define SUB_MS_BITS	12
#define MIN_STEP_NS	((NS_PER_MS >> SUB_MS_BITS) + 1)

/*
 * Nanoseconds since 1970, at least one step of rand_a after the last result
 * in this backend.
 */
static int64
next_time(void)
{
	static int64 previous = 0;
	struct timespec clock;
	int64		now;

	clock_gettime(CLOCK_REALTIME, &clock);
	now = (int64) clock.tv_sec * 1000 * NS_PER_MS + clock.tv_nsec;
	if (now < previous + MIN_STEP_NS)
		now = previous + MIN_STEP_NS;
	previous = now;
	return now;
}

/*
 * RFC 9562, version 7: 48 bits of milliseconds, 12 bits of the millisecond's
 * fraction in rand_a (its method 3), 62 random bits.
 */
Datum
dbopt_uuid_v7(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *uuid = palloc(UUID_LEN);
	int64		now = next_time();
	uint64		ms = now / NS_PER_MS;
	uint32		fraction = ((now % NS_PER_MS) << SUB_MS_BITS) / NS_PER_MS;
	int			i;

	for (i = 0; i < 6; i++)
		uuid->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	uuid->data[6] = (unsigned char) (0x70 | (fraction >> 8));
	uuid->data[7] = (unsigned char) fraction;

	if (!pg_strong_random(&uuid->data[8], UUID_LEN - 8))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;

	PG_RETURN_UUID_P(uuid);
}

#endif							/* DBOPT_BUILTIN_UUID_V7 */
