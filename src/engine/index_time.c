/*
 * index_time.c
 *		How long an index will take to build, from its sample.
 *
 * CREATE INDEX CONCURRENTLY reads the table twice, sorts the entries (or
 * inserts them one by one) and writes the index.  What reading a row and
 * comparing two keys take is measured on the sample, here and now; the rest is
 * in proportion to it.  How far such a figure is off on this server is learned
 * from builds, see index_rate.c.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "access/gin.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "engine/index_time.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/tuplesort.h"

/* Transactions, locks and the catalogue, whatever the size. */
#define FIXED_MS	10.0

/* Writing the index, with its log. */
#define WRITE_BYTES_PER_MS	(150 * 1024.0)

/* Of what reading and sorting once by the sample take: there is a second scan,
 * with a sort of its own, which compares less. */
#define SCANS		1.5
#define SORTS		1.5

/* What a row takes besides: on its way through the sorts, or to its place. */
#define ENTRY_MS	0.00035
#define INSERT_MS	0.003

/* An entry of an inverted index, a key, and what being full adds to both. */
#define GIN_ENTRY_MS	0.00045
#define GIN_KEY_MS		0.002
#define GIN_AGAIN		0.6

#define SORT_TRIES	3

/* ---- sorting ------------------------------------------------------------- */

typedef struct SortKeys
{
	AttrNumber *columns;
	Oid		   *operators;
	bool	   *nulls_first;
} SortKeys;

/* False: a key has no order. */
static bool
make_sort_keys(const DbOptIndexShape *shape, SortKeys *keys)
{
	keys->columns = palloc(sizeof(AttrNumber) * shape->keys);
	keys->operators = palloc(sizeof(Oid) * shape->keys);
	keys->nulls_first = palloc(sizeof(bool) * shape->keys);
	for (int i = 0; i < shape->keys; i++)
	{
		Oid			family = get_opclass_family(shape->opclasses[i]);
		Oid			type = get_opclass_input_type(shape->opclasses[i]);
		bool		descending = (shape->options[i] & INDOPTION_DESC) != 0;

		keys->columns[i] = i + 1;
		keys->operators[i] =
			get_opfamily_member(family, type, type, descending ?
								BTGreaterStrategyNumber :
								BTLessStrategyNumber);
		keys->nulls_first[i] =
			(shape->options[i] & INDOPTION_NULLS_FIRST) != 0;
		if (!OidIsValid(keys->operators[i]))
			return false;
	}
	return true;
}

/* Of this process alone: a sample is too small to be interrupted. */
static double
processor_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec * 1000.0 + time.tv_nsec / 1000000.0;
}

static void
put_rows(Tuplesortstate *sort, const DbOptIndexSample *sample,
		 TupleTableSlot *slot)
{
	for (int row = 0; row < sample->rows; row++)
	{
		ExecClearTuple(slot);
		memcpy(slot->tts_values, sample->values[row],
			   sizeof(Datum) * sample->desc->natts);
		memcpy(slot->tts_isnull, sample->nulls[row],
			   sizeof(bool) * sample->desc->natts);
		tuplesort_puttupleslot(sort, ExecStoreVirtualTuple(slot));
	}
}

/* Milliseconds that it takes to put the sample in, sort it and get it out. */
static double
sort_sample(const DbOptIndexShape *shape, const DbOptIndexSample *sample,
			const SortKeys *keys)
{
	TupleTableSlot *in = MakeSingleTupleTableSlot(sample->desc,
												  &TTSOpsVirtual);
	TupleTableSlot *out = MakeSingleTupleTableSlot(sample->desc,
												   &TTSOpsMinimalTuple);
	Tuplesortstate *sort =
	tuplesort_begin_heap(sample->desc, shape->keys, keys->columns,
						 keys->operators, shape->collations,
						 keys->nulls_first, maintenance_work_mem, NULL,
						 TUPLESORT_NONE);
	double		start = processor_ms();
	double		end;

	put_rows(sort, sample, in);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, out, NULL))
		;
	end = processor_ms();
	tuplesort_end(sort);
	ExecDropSingleTupleTableSlot(in);
	ExecDropSingleTupleTableSlot(out);
	return end - start;
}

/*
 * The time of "rows" rows.  The best of several tries with the sample found it
 * in the processor's cache.
 */
static double
sort_ms(const DbOptIndexShape *shape, const DbOptIndexSample *sample,
		double rows)
{
	SortKeys	keys;
	double		best = 0;

	if (sample->rows < 2 || rows < 2 || !make_sort_keys(shape, &keys))
		return 0;
	for (int i = 0; i < SORT_TRIES; i++)
	{
		double		ms = sort_sample(shape, sample, &keys);

		best = i == 0 ? ms : Min(best, ms);
	}
	return best * rows * log2(rows) / (sample->rows * log2(sample->rows));
}

/* ---- the whole ----------------------------------------------------------- */

/* What it takes to read the table once, as the sample was read. */
static double
read_ms(const DbOptIndexCounts *counts, const DbOptIndexSample *sample)
{
	double		share = sample->rows > 0 ? sample->rows / counts->rows :
	sample->pages / counts->heap_pages;

	return sample->read_ms / Min(share, 1);
}

/*
 * An inverted index gathers its entries in memory, and inserts them in the
 * order of their keys whenever that is full: from the second time on into what
 * is there.
 */
static double
gin_ms(const DbOptIndexSize *size)
{
	double		rounds = size->bytes / (maintenance_work_mem * 1024.0);

	return (size->entries * GIN_ENTRY_MS + size->keys * GIN_KEY_MS) *
		(1 + rounds * GIN_AGAIN);
}

double
dbopt_index_build_ms(const DbOptIndexShape *shape,
					 const DbOptIndexCounts *counts,
					 const DbOptIndexSample *sample,
					 const DbOptIndexSize *size)
{
	double		ms = FIXED_MS + SCANS * read_ms(counts, sample) +
	size->bytes / WRITE_BYTES_PER_MS;

	switch (shape->am)
	{
		case BTREE_AM_OID:
			return ms + SORTS * sort_ms(shape, sample, counts->rows) +
				counts->rows * ENTRY_MS;
		case GIN_AM_OID:
			return ms + gin_ms(size);
		case BRIN_AM_OID:
			return ms + counts->rows * ENTRY_MS;
		default:
			return ms + counts->rows * INSERT_MS;
	}
}
