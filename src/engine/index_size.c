/*
 * index_size.c
 *		How large an index will be, from its shape and its table.
 *
 * A btree is reckoned as its build packs it: leaf pages up to the fill factor,
 * equal keys as posting lists where the operator classes allow it, and the
 * pages above.  Inverted indexes have a file of their own; the other methods
 * are reckoned by what an entry takes and how full their pages become.
 */
#include "postgres.h"

#include <math.h>

#include "access/hash.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_statistic.h"
#include "engine/index_gin_size.h"
#include "engine/index_sample.h"
#include "engine/index_size.h"
#include "engine/index_time.h"
#include "storage/bufpage.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

/* Of a page, without its header and a btree's special space. */
#define PAGE_BYTES	(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(BTPageOpaqueData)))

/* How large a build lets posting lists become, and what a row takes there. */
#define POSTING_MAX	(MAXALIGN_DOWN(BLCKSZ * 10 / 100) - sizeof(ItemIdData))
#define POSTING_ROW	sizeof(ItemPointerData)

#define BRIN_PAGES_PER_RANGE	128
#define INSERT_FILL		0.67

/* What a kind of leaf item adds up to. */
typedef struct LeafItems
{
	double		count;
	double		bytes;			/* with line pointers */
} LeafItems;

static void
add_items(LeafItems *items, double count, double bytes)
{
	items->count += count;
	items->bytes += count * (bytes + sizeof(ItemIdData));
}

/* "groups" keys with "size" rows each. */
static void
add_groups(LeafItems *items, double groups, double size, double tuple)
{
	double		most = Max(floor((POSTING_MAX - tuple) / POSTING_ROW), 2);
	double		full = floor(size / most);
	double		rest = size - full * most;

	add_items(items, groups * full,
			  Min(tuple + MAXALIGN((Size) (most * POSTING_ROW)), POSTING_MAX));
	if (rest >= 2)
		add_items(items, groups,
				  tuple + MAXALIGN((Size) ceil(rest * POSTING_ROW)));
	else
		add_items(items, groups * rest, tuple);
}

/*
 * Keys whose number of rows spreads around a mean as chance has it, each with
 * at least one row.
 */
static void
add_random_groups(LeafItems *items, double groups, double mean, double tuple)
{
	double		lambda = mean;
	double		probability;

	if (mean <= 1.001 || mean > 30)
	{
		add_groups(items, groups, mean, tuple);
		return;
	}
	for (int i = 0; i < 50; i++)
		lambda = mean * (1 - exp(-lambda));
	probability = exp(-lambda) / (1 - exp(-lambda));
	for (int size = 1; size < 100; size++)
	{
		probability *= lambda / size;
		add_groups(items, groups * probability, size, tuple);
	}
}

/*
 * Frequent values of an index on one column, which say more than a mean;
 * returns what is left for the other keys.
 */
static void
add_frequent(LeafItems *items, Relation rel, const DbOptIndexShape *shape,
			 double tuple, double *rows, double *groups)
{
	HeapTuple	stats;
	AttStatsSlot slot;
	double		total = *rows;
	double		nulls;

	if (shape->keys != 1 || shape->attnums[0] == 0 || shape->predicate != NIL)
		return;
	stats = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(RelationGetRelid(rel)),
							Int16GetDatum(shape->attnums[0]), BoolGetDatum(false));
	if (!HeapTupleIsValid(stats))
		return;
	nulls = ((Form_pg_statistic) GETSTRUCT(stats))->stanullfrac * total;
	if (nulls >= 1)
	{
		add_groups(items, 1, nulls, MAXALIGN(sizeof(IndexTupleData) +
											 sizeof(IndexAttributeBitMapData)));
		*rows -= nulls;
		*groups -= 1;
	}
	if (get_attstatsslot(&slot, stats, STATISTIC_KIND_MCV, InvalidOid, ATTSTATSSLOT_NUMBERS))
	{
		for (int i = 0; i < slot.nnumbers; i++)
			add_groups(items, 1, slot.numbers[i] * total, tuple);
		for (int i = 0; i < slot.nnumbers; i++)
			*rows -= slot.numbers[i] * total;
		*groups -= slot.nnumbers;
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(stats);
}

/* Whether a build merges equal keys, as _bt_allequalimage() has it. */
static bool
merges_equal_keys(const DbOptIndexShape *shape)
{
	if (shape->is_unique || shape->columns > shape->keys)
		return false;
	for (int i = 0; i < shape->keys; i++)
	{
		Oid			family = get_opclass_family(shape->opclasses[i]);
		Oid			type = get_opclass_input_type(shape->opclasses[i]);
		Oid			proc = get_opfamily_proc(family, type, type, BTEQUALIMAGE_PROC);

		if (!OidIsValid(proc) ||
			!DatumGetBool(OidFunctionCall1Coll(proc, shape->collations[i],
											   ObjectIdGetDatum(type))))
			return false;
	}
	return true;
}

static double
btree_bytes(Relation rel, const DbOptIndexShape *shape, int fillfactor,
			const DbOptIndexCounts *counts, double tuple)
{
	double		usable = PAGE_BYTES - BLCKSZ * (100 - fillfactor) / 100.0;
	double		above = PAGE_BYTES - BLCKSZ * (100 - BTREE_NONLEAF_FILLFACTOR) / 100.0;
	double		fanout = Max(floor(above / (tuple + sizeof(ItemIdData))), 2);
	LeafItems	items = {0};
	double		pages;
	double		total = 1;		/* the meta page */

	if (merges_equal_keys(shape))
	{
		double		rows = counts->rows;
		double		groups = counts->groups;

		add_frequent(&items, rel, shape, tuple, &rows, &groups);
		if (rows >= 1)
		{
			groups = Min(Max(groups, 1), rows);
			add_random_groups(&items, groups, rows / groups, tuple);
		}
	}
	else
		items = (LeafItems)
	{
		counts->rows, counts->rows * (tuple + sizeof(ItemIdData))
	};

	pages = ceil(items.count / Max(floor(usable / (items.bytes / Max(items.count, 1))), 1));
	for (total += pages; pages > 1; total += pages)
		pages = ceil(pages / fanout);
	return total * BLCKSZ;
}

/*
 * A build makes as many buckets as the rows need: a power of two, and above
 * 512 a quarter of one more or less.
 */
static double
hash_bytes_of(double rows)
{
	double		tuple = MAXALIGN(sizeof(IndexTupleData) + sizeof(uint32));
	double		page_rows = floor(BLCKSZ * HASH_DEFAULT_FILLFACTOR / 100 /
								  (tuple + sizeof(ItemIdData)));
	double		needed = Max(rows / page_rows, 2);
	double		power = pow(2, floor(log2(needed)));
	double		step = power >= 512 ? power / 4 : power;

	return BLCKSZ * (2 + ceil(needed / step) * step);
}

/* The methods whose pages fill by inserting, about two thirds of them. */
static double
other_bytes(const DbOptIndexShape *shape, const DbOptIndexCounts *counts,
			double tuple)
{
	double		ranges = ceil(counts->heap_pages / BRIN_PAGES_PER_RANGE);

	if (shape->am == BRIN_AM_OID)
		return BLCKSZ * (2 + ceil(ranges * 2 * tuple / PAGE_BYTES));
	if (shape->am == HASH_AM_OID)
		return hash_bytes_of(counts->rows);
	return BLCKSZ * (2 + ceil(counts->rows * (tuple + sizeof(ItemIdData)) /
							  (PAGE_BYTES * INSERT_FILL)));
}

void
dbopt_index_size(Relation rel, const DbOptIndexShape *shape, int fillfactor,
				 DbOptIndexSize *size)
{
	DbOptIndexCounts counts;
	DbOptIndexSample *sample;

	memset(size, 0, sizeof(*size));
	size->bytes = shape->am == GIN_AM_OID ? 2 * BLCKSZ : BLCKSZ;
	dbopt_index_count(rel, shape, &counts);
	if (counts.heap_pages == 0)
		return;
	sample = dbopt_index_sample(rel, shape, &counts);
	size->table_rows = counts.table_rows;
	size->rows = counts.rows;
	size->entries = counts.rows;
	if (sample->rows == 0)
		sample->tuple_bytes = MAXALIGN(sizeof(IndexTupleData) + MAXALIGN(8) * shape->columns);
	if (shape->am == BTREE_AM_OID)
		size->bytes = btree_bytes(rel, shape,
								  fillfactor > 0 ? fillfactor :
								  BTREE_DEFAULT_FILLFACTOR,
								  &counts, sample->tuple_bytes);
	else if (shape->am == GIN_AM_OID)
		size->bytes = dbopt_gin_size(shape, &counts, sample, size);
	else
		size->bytes = other_bytes(shape, &counts, sample->tuple_bytes);
	size->ms = dbopt_index_build_ms(shape, &counts, sample, size);
}
