/*
 * index_sample.c
 *		What the planner and some rows of a table tell about an index that is
 *		not there yet.
 *
 * Run by whoever estimates an index, as the table's owner.  Rows, selectivity
 * and different keys are what the planner makes of the statistics of ANALYZE;
 * nothing is executed for them.  Widths, and what the keys of an inverted
 * index are, come from a sample of the table's pages, because expressions have
 * no statistics, and tables that were never analyzed have none at all.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type_d.h"
#include "engine/index_groups.h"
#include "engine/index_sample.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/plannodes.h"
#include "portability/instr_time.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"

#define SAMPLE_ROWS			3000
#define SAMPLE_ROWS_GIN		30000	/* whose keys are many more than its rows */
#define SAMPLE_PAGES_MIN	30
#define SAMPLE_PAGES_MAX	2000
#define SAMPLE_BYTES_MAX	(32.0 * 1024 * 1024)
#define FIRST_ROWS			10	/* whose size tells how many more there may be */

/* Columns of an index, from "first" to before "end", for SELECT. */
static char *
column_list(Relation rel, const DbOptIndexShape *shape, int first, int end)
{
	List	   *context = deparse_context_for(RelationGetRelationName(rel),
											  RelationGetRelid(rel));
	ListCell   *expression = list_head(shape->expressions);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < end; i++)
	{
		const char *column;

		if (shape->attnums[i] != 0)
			column = quote_identifier(get_attname(RelationGetRelid(rel),
												  shape->attnums[i], false));
		else
		{
			column = psprintf("(%s)",
							  deparse_expression(lfirst(expression), context,
												 false, false));
			expression = lnext(shape->expressions, expression);
		}
		if (i >= first)
			appendStringInfo(&text, "%s%s", i > first ? ", " : "", column);
	}
	return text.data;
}

/* "schema.table", and a WHERE for the predicate. */
static char *
table_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static char *
condition(Relation rel, const DbOptIndexShape *shape)
{
	List	   *context = deparse_context_for(RelationGetRelationName(rel),
											  RelationGetRelid(rel));

	if (shape->predicate == NIL)
		return "";
	return psprintf(" WHERE %s",
					deparse_expression((Node *) make_ands_explicit(shape->predicate),
									   context, false, false));
}

/* How many rows the planner expects of a query. */
static double
planned_rows(const char *query)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	CachedPlan *cached;
	double		rows;

	if (plan == NULL || (cached = SPI_plan_get_cached_plan(plan)) == NULL)
		elog(ERROR, "could not plan \"%s\"", query);
	rows = linitial_node(PlannedStmt, cached->stmt_list)->planTree->plan_rows;
	ReleaseCachedPlan(cached, NULL);	/* the plan is not a saved one */
	SPI_freeplan(plan);
	return rows;
}

/*
 * Different keys of a btree: of several columns at once the planner expects no more than
 * a tenth of the rows, which is too few for an index, unless there are
 * statistics for them.
 */
static double
count_groups(Relation rel, const DbOptIndexShape *shape, const char *from,
			 const char *where, double rows)
{
	double	   *values = palloc(sizeof(double) * shape->keys);
	double		groups;

	if (shape->am != BTREE_AM_OID)
		return rows;			/* whose keys need not even have an equality */
	for (int i = 0; i < shape->keys; i++)
		values[i] = planned_rows(psprintf("SELECT %s%s GROUP BY %s", from, where,
										  column_list(rel, shape, i, i + 1)));
	if (shape->keys == 1)
		return values[0];
	groups = dbopt_index_groups(rel, shape->attnums, values, shape->keys, rows);
	if (list_length(RelationGetStatExtList(rel)) > 0)
		groups = Min(groups,
					 planned_rows(psprintf("SELECT %s%s GROUP BY %s", from, where,
										   column_list(rel, shape, 0, shape->keys))));
	return groups;
}

void
dbopt_index_count(Relation rel, const DbOptIndexShape *shape,
				  DbOptIndexCounts *counts)
{
	char	   *from = psprintf("FROM ONLY %s", table_name(rel));
	char	   *where = condition(rel, shape);

	memset(counts, 0, sizeof(*counts));
	counts->heap_pages = RelationGetNumberOfBlocks(rel);
	if (counts->heap_pages == 0)
		return;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	counts->table_rows = planned_rows(psprintf("SELECT %s", from));
	counts->rows = *where == '\0' ? counts->table_rows :
		planned_rows(psprintf("SELECT %s%s", from, where));
	counts->groups = count_groups(rel, shape, from, where,
								  counts->rows);
	counts->groups = Max(Min(counts->groups, counts->rows), 1);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
}

/* Pages that hold enough rows of the index. */
static double
sample_pages(const DbOptIndexShape *shape, const DbOptIndexCounts *counts)
{
	double		rows = shape->am == GIN_AM_OID ? SAMPLE_ROWS_GIN : SAMPLE_ROWS;
	double		pages = rows / Max(counts->rows, 1) * counts->heap_pages;

	pages = Min(Max(pages, SAMPLE_PAGES_MIN), SAMPLE_PAGES_MAX);
	return Min(pages, counts->heap_pages);
}

/*
 * What a value takes in an index beyond what it does in a row: it is not kept
 * elsewhere, and a btree's key of type name ends where the name does.
 */
static double
extra_bytes(const DbOptIndexShape *shape, int column, Form_pg_attribute form,
			Datum value)
{
	if (form->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(value)))
		return (double) toast_datum_size(value) -
			VARSIZE_EXTERNAL(DatumGetPointer(value));
	if (form->atttypid == NAMEOID && shape->am == BTREE_AM_OID &&
		column < shape->keys)
		return strlen(NameStr(*DatumGetName(value))) + 1.0 - NAMEDATALEN;
	return 0;
}

/* The size of an index tuple, as index_form_tuple() makes it. */
static double
tuple_bytes(const DbOptIndexShape *shape, TupleDesc desc, Datum *values,
			bool *nulls)
{
	Size		header = sizeof(IndexTupleData);
	double		data = heap_compute_data_size(desc, values, nulls);

	for (int i = 0; i < desc->natts; i++)
		if (!nulls[i])
			data += extra_bytes(shape, i, TupleDescAttr(desc, i), values[i]);
	for (int i = 0; i < desc->natts; i++)
		if (nulls[i])
		{
			header += sizeof(IndexAttributeBitMapData);
			break;
		}
	return MAXALIGN(MAXALIGN(header) + (Size) data);
}

/* Copies a row that SPI has read into the present memory. */
static void
keep_row(DbOptIndexSample *sample, const DbOptIndexShape *shape, HeapTuple row)
{
	int			columns = sample->desc->natts;
	Datum	   *values = palloc(columns * sizeof(Datum));
	bool	   *nulls = palloc(columns * sizeof(bool));

	heap_deform_tuple(row, sample->desc, values, nulls);
	sample->tuple_bytes += tuple_bytes(shape, sample->desc, values, nulls);
	for (int i = 0; i < columns; i++)
		if (!nulls[i])
			values[i] = datumCopy(values[i],
								  TupleDescAttr(sample->desc, i)->attbyval,
								  TupleDescAttr(sample->desc, i)->attlen);
	sample->values[sample->rows] = values;
	sample->nulls[sample->rows] = nulls;
	sample->rows++;
}

/* Adds what SPI has read; returns how many bytes that is. */
static double
keep_rows(DbOptIndexSample *sample, const DbOptIndexShape *shape)
{
	Size		room = (sample->rows + SPI_processed) * sizeof(Datum *);
	double		bytes = 0;

	if (sample->desc == NULL)
	{
		sample->desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
		sample->values = palloc(1);
		sample->nulls = palloc(1);
	}
	sample->values = repalloc(sample->values, Max(room, 1));
	sample->nulls = repalloc(sample->nulls, Max(room, 1));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bytes += SPI_tuptable->vals[row]->t_len;
		keep_row(sample, shape, SPI_tuptable->vals[row]);
	}
	return bytes;
}

static double
ms_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

/*
 * Reads the sample, by as many rows as fit the memory there is for it by the
 * size of those before: what an expression makes of a row may be large.
 */
static void
fetch_sample(DbOptIndexSample *sample, const DbOptIndexShape *shape,
			 SPIPlanPtr plan, MemoryContext context)
{
	Portal		portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	double		count = FIRST_ROWS;
	double		bytes = 0;
	bool		more;

	do
	{
		MemoryContext spi_context;
		instr_time	start;

		INSTR_TIME_SET_CURRENT(start);
		SPI_cursor_fetch(portal, true, (long) count);
		sample->read_ms += ms_since(start);
		spi_context = MemoryContextSwitchTo(context);
		bytes += keep_rows(sample, shape);
		MemoryContextSwitchTo(spi_context);
		more = SPI_processed == (long) count;
		SPI_freetuptable(SPI_tuptable);
		count = Min(count * 10, (SAMPLE_BYTES_MAX - bytes) * sample->rows / Max(bytes, 1));
	} while (more && count >= 1);
	SPI_cursor_close(portal);
	sample->tuple_bytes /= Max(sample->rows, 1);
}

/*
 * The second time without interruption, perhaps.  Preparing the query has
 * nothing to do with the table, and does not count.
 */
static void
read_sample(DbOptIndexSample *sample, const DbOptIndexShape *shape,
			const char *query, MemoryContext context)
{
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	instr_time	start;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query);
	fetch_sample(sample, shape, plan, context);
	INSTR_TIME_SET_CURRENT(start);
	if (SPI_execute_plan(plan, NULL, NULL, true, sample->rows) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", query);
	sample->read_ms = Min(sample->read_ms, ms_since(start));
}

DbOptIndexSample *
dbopt_index_sample(Relation rel, const DbOptIndexShape *shape,
				   const DbOptIndexCounts *counts)
{
	DbOptIndexSample *sample = palloc0(sizeof(DbOptIndexSample));
	MemoryContext context = CurrentMemoryContext;
	char	   *query;

	if (counts->heap_pages == 0)
		return sample;
	sample->pages = sample_pages(shape, counts);
	query = psprintf("SELECT %s FROM ONLY %s TABLESAMPLE SYSTEM (%.17g) REPEATABLE (0)%s",
					 column_list(rel, shape, 0, shape->columns), table_name(rel),
					 100 * sample->pages / counts->heap_pages,
					 condition(rel, shape));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	read_sample(sample, shape, query, context);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	return sample;
}
