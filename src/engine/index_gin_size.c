/*
 * index_gin_size.c
 *		How large an inverted index will be.
 *
 * The operator class itself takes the keys out of a sample of values.  How
 * often a key occurs gives the distances between its rows, and with them the
 * bytes that its compressed list of rows takes; the keys that were seen once or
 * twice tell how many more there are in the whole table.
 *
 * A build gathers entries in maintenance_work_mem and inserts them in the order
 * of their keys whenever that is full.  The first time this leaves pages that
 * were split as they filled from the left; later lists grow where they are, and
 * leave a page that is not given back when they move out of it.
 */
#include "postgres.h"

#include <math.h>

#include "access/gin.h"
#include "access/ginblock.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "engine/index_gin_size.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* How full pages of lists become, and pages of keys that grow anywhere. */
#define LIST_FILL	0.97
#define GROWN_FILL	0.69

/* What a list begins with. */
#define LIST_HEADER	offsetof(GinPostingList, bytes)

/* Of a page, without its header and special space. */
#define PAGE_BYTES	(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(GinPageOpaqueData)))


/* What an entry and a key take in memory, while they are gathered. */
#define ENTRY_MEMORY	9.0
#define KEY_MEMORY		136.0

#define ROUNDS_MAX		32		/* that are told apart */
#define ENTRIES_MAX		3000000.0	/* that are taken from a sample */

typedef struct KeyCount
{
	uint64		hash;			/* of column and key */
	double		rows;			/* of the sample that have it */
	double		length;			/* as it is stored */
} KeyCount;

/* What the sample says about the keys of one column. */
typedef struct KeyScan
{
	HTAB	   *keys;
	int			rows;			/* that were looked at */
	double		entries;
	double		half;			/* keys that the first half of the rows has */
} KeyScan;

static HTAB *
create_counts(void)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(uint64);
	control.entrysize = sizeof(KeyCount);
	control.hcxt = CurrentMemoryContext;
	return hash_create("keys of a GIN index", 1024, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Short texts are stored with a short header. */
static Size
stored_length(Datum key, int16 length, bool by_value)
{
	if (length == -1 && VARATT_CAN_MAKE_SHORT(DatumGetPointer(key)))
		return VARATT_CONVERTED_SHORT_SIZE(DatumGetPointer(key));
	return by_value ? length : datumGetSize(key, false, length);
}

static void
count_hash(KeyScan *scan, uint64 hash, double length)
{
	bool		found;
	KeyCount   *count = hash_search(scan->keys, &hash, HASH_ENTER, &found);

	count->rows = found ? count->rows + 1 : 1;
	count->length = length;
	scan->entries++;
}

static void
count_key(KeyScan *scan, int column, Datum key, int16 length, bool by_value)
{
	Size		size = by_value ? sizeof(Datum) : datumGetSize(key, false, length);
	const void *bytes = by_value ? (const void *) &key : DatumGetPointer(key);

	count_hash(scan, hash_bytes_extended(bytes, size, column),
			   stored_length(key, length, by_value));
}

/* NULL, in a value or as one, and what has no keys: one key for all of them. */
static void
count_nothing(KeyScan *scan)
{
	count_hash(scan, 0, 0);
}

/* What the operator class stores for a value of the column. */
static Oid
key_type_of(Oid opclass, Oid column_type)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Oid			type;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	type = ((Form_pg_opclass) GETSTRUCT(tuple))->opckeytype;
	ReleaseSysCache(tuple);
	if (!OidIsValid(type))
		return column_type;
	return IsPolymorphicType(type) ? get_base_element_type(column_type) : type;
}

/* How the keys of a column are taken out. */
typedef struct Extract
{
	FmgrInfo	function;
	Oid			collation;
	int16		length;			/* of a key */
	bool		by_value;
	MemoryContext context;		/* of one value */
} Extract;

static void
scan_value(KeyScan *scan, Extract *extract, int column, Datum value)
{
	MemoryContext caller = MemoryContextSwitchTo(extract->context);
	int32		count = 0;
	bool	   *nulls = NULL;
	Datum	   *keys;

	keys = (Datum *) DatumGetPointer(FunctionCall3Coll(&extract->function,
													   extract->collation,
													   value,
													   PointerGetDatum(&count),
													   PointerGetDatum(&nulls)));
	if (count == 0)
		count_nothing(scan);
	for (int i = 0; i < count; i++)
		if (nulls == NULL || !nulls[i])
			count_key(scan, column, keys[i], extract->length,
					  extract->by_value);
		else
			count_nothing(scan);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(extract->context);
}

/* Counts the keys of one column of the sampled rows. */
static void
scan_column(KeyScan *scan, const DbOptIndexShape *shape, int column,
			const DbOptIndexSample *sample)
{
	Oid			family = get_opclass_family(shape->opclasses[column]);
	Oid			input = get_opclass_input_type(shape->opclasses[column]);
	Oid			key_type;
	Extract		extract = {.collation = shape->collations[column]};

	fmgr_info(get_opfamily_proc(family, input, input, GIN_EXTRACTVALUE_PROC),
			  &extract.function);
	extract.context = AllocSetContextCreate(CurrentMemoryContext,
											"keys of a value",
											ALLOCSET_DEFAULT_SIZES);
	key_type = key_type_of(shape->opclasses[column],
						   TupleDescAttr(sample->desc, column)->atttypid);
	get_typlenbyval(key_type, &extract.length, &extract.by_value);
	for (int row = 0; row < sample->rows && scan->entries < ENTRIES_MAX; row++)
	{
		if (row == sample->rows / 2)
			scan->half = hash_get_num_entries(scan->keys);
		CHECK_FOR_INTERRUPTS();
		if (sample->nulls[row][column])
			count_nothing(scan);
		else
			scan_value(scan, &extract, column, sample->values[row][column]);
		scan->rows++;
	}
}

/*
 * The bytes of one key's rows, of which there are "rows" in the table: the
 * first one as it is, in the header, the others as the distance from the one
 * before; and a header every 256 bytes.
 */
static double
list_bytes(double rows, const DbOptIndexCounts *counts)
{
	double		share = Min(rows / counts->rows, 1);
	double		page_rows = counts->rows / counts->heap_pages;
	double		pages = counts->heap_pages * (1 - pow(1 - share, page_rows));
	double		gap;
	double		jump;
	double		bytes;

	pages = Min(Max(pages, 1), Max(rows, 1));
	gap = counts->heap_pages / pages;
	jump = 2 + exp(-8 / gap) + exp(-1024 / gap);

	/* a byte within a page, two to four to another */
	bytes = (pages - 1) * jump + Max(rows - pages, 0);
	return bytes + LIST_HEADER * ceil((bytes + 1) / 256);
}

/* ---- the build ----------------------------------------------------------- */

/* What all keys add up to, after each round of the build. */
typedef struct GinPages
{
	double		rounds;			/* how often the memory is full: 1 or more */
	double		keys;
	double		lists;			/* pages of lists that moved out */
	double		first;			/* pages of keys after the first round */
	double		key_bytes[ROUNDS_MAX];	/* of pages of keys, after each */
} GinPages;

/*
 * Pages that are filled from the left, with tuples of a size: each gets one too
 * many, and keeps a little more than half.
 */
static double
split_pages(double keys, double tuple)
{
	double		fit = Max(floor(PAGE_BYTES / tuple), 1);

	return keys / (floor((fit + 1) / 2) + 1);
}

/* Of a list that has moved out: leaves, and one above where they are several. */
static double
tree_pages(double list)
{
	double		leaves = ceil(list / (BLCKSZ * LIST_FILL));

	return leaves > 1 ? leaves + 1 : leaves;
}

/* So many keys that have "rows" rows each. */
static void
add_keys(GinPages *pages, double keys, double rows, double key_length,
		 const DbOptIndexCounts *counts)
{
	int			last = (int) ceil(Min(pages->rounds, ROUNDS_MAX)) - 1;
	bool		moved = false;

	pages->keys += keys;
	for (int i = 0; i <= last; i++)
	{
		double		share = i == last ? 1 : (i + 1) / pages->rounds;
		double		met = keys * Min(rows * share, 1);
		double		tuple = sizeof(IndexTupleData) + key_length;
		double		list = list_bytes(Max(rows * share, 1), counts);

		moved |= tuple + list > GinMaxItemSize;
		tuple = MAXALIGN((Size) ceil(moved ? tuple : tuple + list)) +
			sizeof(ItemIdData);
		pages->key_bytes[i] += met * tuple;
		if (i == 0)
			pages->first += split_pages(met, tuple);
	}
	if (moved)
		pages->lists += keys * tree_pages(list_bytes(rows, counts));
}

static double
sum_pages(const GinPages *pages)
{
	double		most = pages->first;

	for (int i = 1; i < ROUNDS_MAX; i++)
		most = Max(most, pages->key_bytes[i] / (PAGE_BYTES * GROWN_FILL));
	return ceil(most) + ceil(pages->lists);
}

/* ---- keys ---------------------------------------------------------------- */

/* Of the keys of a sample, those that were seen once and twice. */
typedef struct RareKeys
{
	double		seen;			/* all of them */
	double		once;
	double		twice;
	double		more;			/* that the whole table has beside the others */
} RareKeys;

/*
 * How many keys the sample has missed, with those that it has seen once.  It
 * is the larger of two estimates, which both are too low where they do not
 * fit: that each doubling of the rows adds keys in the same proportion, as for
 * words of a text; and Chao's, by those seen once and twice, for keys that are
 * different in almost each row beside others that are few.
 */
static void
count_missed(RareKeys *rare, double half, double rows, double scale)
{
	double		growth = rare->seen *
	pow(scale, log2(rare->seen / Max(half, 1))) - rare->seen;
	double		unseen = rare->twice > 0 ?
	rare->once * rare->once / (2 * rare->twice) :
	rare->once * (rare->once - 1) / 2;
	double		chao = unseen *
	(1 - exp(-rows * (scale - 1) * rare->once /
			 Max(rows * unseen + rare->once, 1)));

	rare->more = rare->once + Max(growth, chao);
	rare->more = Min(Max(rare->more, rare->once), rare->once * scale);
}

static void
look_at_rare(RareKeys *rare, const KeyScan *scan, double scale)
{
	HASH_SEQ_STATUS status;
	KeyCount   *count;

	memset(rare, 0, sizeof(*rare));
	rare->seen = hash_get_num_entries(scan->keys);
	hash_seq_init(&status, scan->keys);
	while ((count = hash_seq_search(&status)) != NULL)
	{
		rare->once += count->rows == 1;
		rare->twice += count->rows == 2;
	}
	count_missed(rare, scan->half, scan->rows, scale);
}

static void
add_column(GinPages *pages, const KeyScan *scan, const RareKeys *rare,
		   const DbOptIndexCounts *counts)
{
	double		scale = counts->rows / scan->rows;
	double		once_bytes = 0;
	HASH_SEQ_STATUS status;
	KeyCount   *count;

	hash_seq_init(&status, scan->keys);
	while ((count = hash_seq_search(&status)) != NULL)
		if (count->rows > 1)
			add_keys(pages, 1, count->rows * scale, count->length, counts);
		else
			once_bytes += count->length;
	if (rare->once > 0)
		add_keys(pages, rare->more, rare->once * scale / rare->more,
				 once_bytes / rare->once, counts);
}

double
dbopt_gin_size(const DbOptIndexShape *shape, const DbOptIndexCounts *counts,
			   const DbOptIndexSample *sample, DbOptIndexSize *size)
{
	KeyScan    *scans = palloc0(sizeof(KeyScan) * shape->keys);
	RareKeys   *rare = palloc0(sizeof(RareKeys) * shape->keys);
	GinPages   *pages = palloc0(sizeof(GinPages));

	size->entries = 0;
	for (int i = 0; i < shape->keys && sample->rows > 0; i++)
	{
		double		scale;

		scans[i].keys = create_counts();
		scan_column(&scans[i], shape, i, sample);
		scale = Max(counts->rows / scans[i].rows, 1);
		look_at_rare(&rare[i], &scans[i], scale);
		size->entries += scans[i].entries * scale;
		size->keys += rare[i].seen - rare[i].once + rare[i].more;
	}
	pages->rounds = (size->entries * ENTRY_MEMORY + size->keys * KEY_MEMORY) /
		(maintenance_work_mem * 1024.0);
	pages->rounds = Max(pages->rounds, 1);
	for (int i = 0; i < shape->keys && sample->rows > 0; i++)
	{
		add_column(pages, &scans[i], &rare[i], counts);
		hash_destroy(scans[i].keys);
	}
	return BLCKSZ * (2 + sum_pages(pages));
}
