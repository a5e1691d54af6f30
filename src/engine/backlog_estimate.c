/*
 * backlog_estimate.c
 *		How many events a cursor has not handed out, without counting.
 *
 * The share of rows that wait and the share of rows of the type come from the
 * statistics that ANALYZE gathered, and are taken to be independent; rows that
 * came since are taken to wait.  Of the holes those count that are positions of
 * many rows.  Read from the catalogue and compared here, not by the planner: it
 * would evaluate what the table's owner wrote into index predicates.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "engine/backlog_estimate.h"
#include "engine/position.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* The statistics of a column; NULL: there are none. */
static HeapTuple
column_statistics(Relation rel, AttrNumber column)
{
	return SearchSysCache3(STATRELATTINH,
						   ObjectIdGetDatum(RelationGetRelid(rel)),
						   Int16GetDatum(column), BoolGetDatum(false));
}

/* Is it behind the cursor, or in a hole? */
static bool
position_waits(const DbOptVersion *version, int64 position)
{
	return position > version->last.position ||
		dbopt_position_in(position, version->holes, version->nholes);
}

/* The share of rows that wait, 0 to 1. */
static double
share_waiting(HeapTuple statistics, const DbOptVersion *version)
{
	AttStatsSlot slot;
	double		common = 0;
	double		common_waiting = 0;
	double		waiting = 0;

	if (get_attstatsslot(&slot, statistics, STATISTIC_KIND_MCV, InvalidOid,
						 ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS))
	{
		for (int i = 0; i < slot.nvalues && i < slot.nnumbers; i++)
		{
			common += slot.numbers[i];
			if (position_waits(version, DatumGetInt64(slot.values[i])))
				common_waiting += slot.numbers[i];
		}
		free_attstatsslot(&slot);
	}
	if (get_attstatsslot(&slot, statistics, STATISTIC_KIND_HISTOGRAM,
						 InvalidOid, ATTSTATSSLOT_VALUES))
	{
		for (int i = 0; i < slot.nvalues; i++)
			if (DatumGetInt64(slot.values[i]) > version->last.position)
				waiting++;
		waiting /= Max(slot.nvalues, 1);
		free_attstatsslot(&slot);
	}
	return common_waiting + waiting * Max(1 - common, 0);
}

/* The share of rows of a type that is not among the most common ones. */
static double
share_uncommon(HeapTuple statistics, double common, int ncommon, double rows)
{
	Form_pg_statistic form = (Form_pg_statistic) GETSTRUCT(statistics);
	double		distinct = form->stadistinct < 0 ?
	-form->stadistinct * rows : form->stadistinct;

	return Max(1 - common - form->stanullfrac, 0) /
		Max(distinct - ncommon, 1);
}

static double
share_of_type(HeapTuple statistics, const char *event_type, double rows)
{
	AttStatsSlot slot;
	double		common = 0;
	double		share = -1;
	int			ncommon = 0;

	if (get_attstatsslot(&slot, statistics, STATISTIC_KIND_MCV, InvalidOid,
						 ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS))
	{
		ncommon = Min(slot.nvalues, slot.nnumbers);
		for (int i = 0; i < ncommon; i++)
		{
			common += slot.numbers[i];
			if (strcmp(TextDatumGetCString(slot.values[i]), event_type) == 0)
				share = slot.numbers[i];
		}
		free_attstatsslot(&slot);
	}
	return share >= 0 ? share :
		share_uncommon(statistics, common, ncommon, rows);
}

static double
leaf_estimate(const DbOptLogLeaf *leaf, const char *event_type,
			  const DbOptVersion *version)
{
	int2vector *columns = &leaf->index->rd_index->indkey;
	HeapTuple	types = column_statistics(leaf->rel, columns->values[0]);
	HeapTuple	positions = column_statistics(leaf->rel, columns->values[1]);
	BlockNumber pages;
	double		rows;
	double		visible;

	estimate_rel_size(leaf->rel, NULL, &pages, &rows, &visible);
	if (HeapTupleIsValid(positions))
	{
		double		analyzed = Max(leaf->rel->rd_rel->reltuples, 0);

		rows = analyzed * share_waiting(positions, version) +
			Max(rows - analyzed, 0);
		ReleaseSysCache(positions);
	}
	if (HeapTupleIsValid(types))
	{
		rows *= share_of_type(types, event_type, rows);
		ReleaseSysCache(types);
	}
	return rows;
}

int64
dbopt_waiting_estimate(const DbOptLog *log, const char *event_type,
					   const DbOptVersion *version)
{
	double		events = 0;

	for (int i = 0; i < log->nleaves; i++)
		events += leaf_estimate(&log->leaves[i], event_type, version);
	return (int64) events;
}
