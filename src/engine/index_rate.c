/*
 * index_rate.c
 *		How long builds take on this server, held against what was reckoned.
 *
 * Run by pool sessions that have built an index, and by whoever estimates
 * one, by heap access, whatever role they have.  dbopt_build_rate has a row
 * for each access method and order of magnitude, so that it stays small; the
 * newest builds weigh most, since servers change.  Writers take SHARE ROW
 * EXCLUSIVE, which makes them take turns.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/defrem.h"
#include "engine/catalog.h"
#include "engine/index_rate.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* The last build counts as much as this many before it. */
#define MEMORY	4

/* A build that took this much more or less says nothing about others. */
#define FACTOR_MAX	100.0

bool
dbopt_index_rate_kept(void)
{
	return OidIsValid(dbopt_table_oid(DBOPT_BUILD_RATE));
}

/* The order of magnitude: how many digits the rows have. */
static int
magnitude_of(double rows)
{
	return rows < 1 ? 0 : 1 + (int) floor(log10(rows));
}

static bool
is_of_method(HeapTuple tuple, TupleDesc desc, const char *method)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, Anum_rate_method, desc, &isnull);

	return strcmp(TextDatumGetCString(value), method) == 0;
}

static int
get_magnitude(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	return DatumGetInt32(heap_getattr(tuple, Anum_rate_magnitude, desc,
									  &isnull));
}

static double
get_factor(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	return DatumGetFloat8(heap_getattr(tuple, Anum_rate_factor, desc,
									   &isnull));
}

/* Of tables of other sizes the next one counts. */
double
dbopt_index_rate(Oid am, double rows)
{
	const char *method = get_am_name(am);
	int			magnitude = magnitude_of(rows);
	int			nearest = PG_INT32_MAX;
	double		factor = 1;
	Relation	rel;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (method == NULL || !dbopt_index_rate_kept())
		return factor;
	rel = dbopt_table_open(DBOPT_BUILD_RATE, AccessShareLock);
	snapshot = dbopt_snapshot_new();
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		int			distance = abs(get_magnitude(tuple, desc) - magnitude);

		if (!is_of_method(tuple, desc, method) || distance >= nearest)
			continue;
		nearest = distance;
		factor = get_factor(tuple, desc);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return factor;
}

/* The row with one build more; old is NULL for the first one. */
static HeapTuple
form_rate(TupleDesc desc, HeapTuple old, const char *method, int magnitude,
		  double factor)
{
	Datum		values[Natts_rate];
	bool		nulls[Natts_rate] = {false};
	int64		builds = 1;

	if (old != NULL)
	{
		bool		isnull;
		double		weight;

		builds += DatumGetInt64(heap_getattr(old, Anum_rate_builds, desc,
											 &isnull));
		weight = 1.0 / Min(builds, MEMORY + 1);
		factor = exp(weight * log(factor) +
					 (1 - weight) * log(get_factor(old, desc)));
	}
	values[Anum_rate_method - 1] = CStringGetTextDatum(method);
	values[Anum_rate_magnitude - 1] = Int32GetDatum(magnitude);
	values[Anum_rate_builds - 1] = Int64GetDatum(builds);
	values[Anum_rate_factor - 1] = Float8GetDatum(factor);
	return heap_form_tuple(desc, values, nulls);
}

void
dbopt_index_rate_learn(Oid am, double rows, double reckoned_ms,
					   double taken_ms)
{
	const char *method = get_am_name(am);
	int			magnitude = magnitude_of(rows);
	double		factor = taken_ms / Max(reckoned_ms, 0.001);
	Relation	rel;
	TupleDesc	desc;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	old;
	HeapTuple	new;

	if (method == NULL || !dbopt_index_rate_kept())
		return;
	factor = Min(Max(factor, 1 / FACTOR_MAX), FACTOR_MAX);
	rel = dbopt_table_open(DBOPT_BUILD_RATE, ShareRowExclusiveLock);
	desc = RelationGetDescr(rel);
	snapshot = dbopt_snapshot_new();
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(old = systable_getnext(scan)))
		if (is_of_method(old, desc, method) &&
			get_magnitude(old, desc) == magnitude)
			break;
	new = form_rate(desc, old, method, magnitude, factor);
	if (HeapTupleIsValid(old))
		CatalogTupleUpdate(rel, &old->t_self, new);
	else
		CatalogTupleInsert(rel, new);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}
