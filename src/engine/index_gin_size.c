/*
 * index_gin_size.c
 *		How large an inverted index will be.
 *
 * The operator class itself takes the keys out of a sample of values.  How
 * often a key occurs gives the distances between its rows, and with them the
 * bytes that its compressed list of rows takes; how many keys were seen once
 * tells how many more there are in the whole table.
 */
#include "postgres.h"

#include <math.h>

#include "access/gin.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "engine/index_gin_size.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* How full pages become: of lists by appending, of keys by halving. */
#define LIST_FILL	0.97
#define KEY_FILL	0.60

/* A list that is longer moves out of its key's tuple. */
#define LIST_INLINE	(BLCKSZ / 4)

typedef struct KeyCount
{
	uint64		hash;			/* of column and key */
	double		rows;			/* of the sample that have it */
} KeyCount;

/* What the sample says about the keys of one column. */
typedef struct KeyScan
{
	HTAB	   *keys;
	double		entries;
	double		key_bytes;		/* of all entries */
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

static void
count_key(KeyScan *scan, int column, Datum key, int16 length, bool by_value)
{
	Size		size = by_value ? sizeof(Datum) : datumGetSize(key, false, length);
	const void *bytes = by_value ? (const void *) &key : DatumGetPointer(key);
	uint64		hash = hash_bytes_extended(bytes, size, column);
	bool		found;
	KeyCount   *count = hash_search(scan->keys, &hash, HASH_ENTER, &found);

	count->rows = found ? count->rows + 1 : 1;
	scan->entries++;
	scan->key_bytes += by_value ? length : size;
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

/* Counts the keys of one column of all sampled rows. */
static void
scan_column(KeyScan *scan, const DbOptIndexShape *shape, int column,
			const DbOptIndexSample *sample)
{
	Oid			family = get_opclass_family(shape->opclasses[column]);
	Oid			input = get_opclass_input_type(shape->opclasses[column]);
	Oid			key_type;
	FmgrInfo	extract;
	int16		length;
	bool		by_value;

	fmgr_info(get_opfamily_proc(family, input, input, GIN_EXTRACTVALUE_PROC), &extract);
	key_type = key_type_of(shape->opclasses[column],
						   TupleDescAttr(sample->desc, column)->atttypid);
	get_typlenbyval(key_type, &length, &by_value);
	for (int row = 0; row < sample->rows; row++)
	{
		int32		count = 0;
		bool	   *nulls = NULL;
		Datum	   *keys;

		if (row == sample->rows / 2)
			scan->half = hash_get_num_entries(scan->keys);
		if (sample->nulls[row][column])
			continue;
		keys = (Datum *) DatumGetPointer(FunctionCall3Coll(&extract, shape->collations[column],
														   sample->values[row][column],
														   PointerGetDatum(&count), PointerGetDatum(&nulls)));
		for (int i = 0; i < count; i++)
			if (nulls == NULL || !nulls[i])
				count_key(scan, column, keys[i], length, by_value);
	}
}

/* The bytes of one key's rows, of which there are "rows" in the table. */
static double
list_bytes(double rows, const DbOptIndexCounts *counts)
{
	double		share = Min(rows / counts->rows, 1);
	double		page_rows = counts->rows / counts->heap_pages;
	double		pages = counts->heap_pages * (1 - pow(1 - share, page_rows));
	double		gap;
	double		jump;

	pages = Min(Max(pages, 1), Max(rows, 1));
	gap = counts->heap_pages / pages;
	jump = 2 + exp(-8 / gap) + exp(-1024 / gap);

	/* a byte within a page, two to four to another; and segment headers */
	return (pages * jump + Max(rows - pages, 0)) * (1 + 8.0 / 256);
}

/* Pages of whole lists, and bytes of tuples with a key, added up. */
typedef struct GinBytes
{
	double		list_pages;
	double		key_bytes;
} GinBytes;

static void
add_keys(GinBytes *bytes, double keys, double rows, double key_length,
		 const DbOptIndexCounts *counts)
{
	double		list = list_bytes(rows, counts);
	double		tuple = sizeof(IndexTupleData) + key_length;

	if (list > LIST_INLINE)
		bytes->list_pages += keys * ceil(list / (BLCKSZ * LIST_FILL));
	else
		tuple += list;
	bytes->key_bytes += keys * (MAXALIGN((Size) tuple) + sizeof(ItemIdData));
}

static void
add_column(GinBytes *bytes, const KeyScan *scan,
		   const DbOptIndexCounts *counts, const DbOptIndexSample *sample)
{
	double		scale = counts->rows / sample->rows;
	double		key_length = scan->key_bytes / Max(scan->entries, 1);
	double		seen = hash_get_num_entries(scan->keys);
	double		once = 0;
	double		keys;
	HASH_SEQ_STATUS status;
	KeyCount   *count;

	hash_seq_init(&status, scan->keys);
	while ((count = hash_seq_search(&status)) != NULL)
		if (count->rows > 1)
			add_keys(bytes, 1, count->rows * scale, key_length, counts);
		else
			once++;
	if (once == 0)
		return;

	/* each doubling of the rows adds keys in the same proportion */
	keys = seen * pow(scale, log2(seen / Max(scan->half, 1))) - (seen - once);
	keys = Min(Max(keys, once), once * scale);
	add_keys(bytes, keys, once * scale / keys, key_length, counts);
}

double
dbopt_gin_size(const DbOptIndexShape *shape, const DbOptIndexCounts *counts,
			   const DbOptIndexSample *sample, double *entries)
{
	GinBytes	bytes = {0};

	*entries = 0;
	for (int column = 0; column < shape->keys && sample->rows > 0; column++)
	{
		KeyScan		scan = {.keys = create_counts()};

		scan_column(&scan, shape, column, sample);
		add_column(&bytes, &scan, counts, sample);
		*entries += scan.entries * counts->rows / sample->rows;
		hash_destroy(scan.keys);
	}
	return BLCKSZ * (2 + ceil(bytes.list_pages) +
					 ceil(bytes.key_bytes / (BLCKSZ * KEY_FILL)));
}
