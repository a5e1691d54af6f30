/*
 * index_groups.c
 *		How many different keys several columns have together.
 *
 * A combination of values is as probable as their probabilities multiplied, and
 * of those that are improbable many do not occur in the table.  So the numbers
 * of different values are not just multiplied: frequent values, which ANALYZE
 * lists, and the others are combined, by order of magnitude.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_statistic.h"
#include "engine/index_groups.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Combinations, of which eight steps halve the probability. */
#define STEPS		8
#define CLASSES		(STEPS * 160)

typedef struct Class
{
	double		count;			/* how many combinations */
	double		mass;			/* their probabilities added up */
} Class;

typedef struct Classes
{
	Class		of[CLASSES];
} Classes;

static void
add_class(Classes *classes, double count, double probability)
{
	int			place;

	if (count <= 0 || probability <= 0)
		return;
	place = (int) (-STEPS * log2(Min(probability, 1)));
	place = Min(place, CLASSES - 1);
	classes->of[place].count += count;
	classes->of[place].mass += count * probability;
}

/* The frequent values; returns what is left for the others of "values". */
static void
add_frequent(Classes *classes, HeapTuple stats, double *values, double *rest)
{
	double		nulls = ((Form_pg_statistic) GETSTRUCT(stats))->stanullfrac;
	AttStatsSlot slot;

	if (nulls > 0)
	{
		add_class(classes, 1, nulls);
		*rest -= nulls;
		*values -= 1;
	}
	if (!get_attstatsslot(&slot, stats, STATISTIC_KIND_MCV, InvalidOid,
						  ATTSTATSSLOT_NUMBERS))
		return;
	if (slot.nnumbers <= *values)
		for (int i = 0; i < slot.nnumbers; i++)
		{
			add_class(classes, 1, slot.numbers[i]);
			*rest -= slot.numbers[i];
			*values -= 1;
		}
	free_attstatsslot(&slot);
}

static Classes *
column_classes(Relation rel, AttrNumber attnum, double values)
{
	Classes    *classes = palloc0(sizeof(Classes));
	double		rest = 1;
	HeapTuple	stats = attnum == 0 ? NULL :
	SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(RelationGetRelid(rel)),
					Int16GetDatum(attnum), BoolGetDatum(false));

	if (HeapTupleIsValid(stats))
	{
		add_frequent(classes, stats, &values, &rest);
		ReleaseSysCache(stats);
	}
	add_class(classes, values, rest / Max(values, 1));
	return classes;
}

static Classes *
multiply(const Classes *a, const Classes *b)
{
	Classes    *product = palloc0(sizeof(Classes));

	for (int i = 0; i < CLASSES; i++)
	{
		const Class *left = &a->of[i];

		if (left->count == 0)
			continue;
		for (int j = 0; j < CLASSES; j++)
		{
			const Class *right = &b->of[j];

			if (right->count > 0)
				add_class(product, left->count * right->count,
						  left->mass / left->count *
						  right->mass / right->count);
		}
	}
	return product;
}

/*
 * Of the rows of each value of one column, how many differ in the others: a
 * value that one row has gives one key, whatever the others are.
 */
static double
count_combinations(const Classes *one, const Classes *others, double rows)
{
	double		groups = 0;

	for (int i = 0; i < CLASSES; i++)
	{
		const Class *value = &one->of[i];
		double		value_rows;

		if (value->count == 0)
			continue;
		value_rows = Max(rows * value->mass / value->count, 1);
		for (int j = 0; j < CLASSES; j++)
		{
			const Class *other = &others->of[j];

			if (other->count > 0)
				groups += value->count * other->count *
					(1 - pow(1 - other->mass / other->count, value_rows));
		}
	}
	return groups;
}

/* The column with most values says most about the number of keys. */
double
dbopt_index_groups(Relation rel, const AttrNumber *attnums,
				   const double *values, int columns, double rows)
{
	Classes    *others = NULL;
	int			finest = 0;

	for (int i = 1; i < columns; i++)
		if (values[i] > values[finest])
			finest = i;
	for (int i = 0; i < columns; i++)
	{
		Classes    *classes;

		if (i == finest)
			continue;
		classes = column_classes(rel, attnums[i], values[i]);
		others = others == NULL ? classes : multiply(others, classes);
	}
	return count_combinations(column_classes(rel, attnums[finest],
											 values[finest]), others, rows);
}
