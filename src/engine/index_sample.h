/*
 * index_sample.h
 *		What the planner and some rows of a table tell about an index that is
 *		not there yet.
 */
#ifndef DBOPT_INDEX_SAMPLE_H
#define DBOPT_INDEX_SAMPLE_H

#include "access/tupdesc.h"
#include "engine/index_shape.h"
#include "utils/relcache.h"

/* Rows that would be in the index, with its columns. */
typedef struct DbOptIndexSample
{
	TupleDesc	desc;			/* NULL: the table is empty */
	int			rows;
	Datum	  **values;			/* by row and column */
	bool	  **nulls;
	double		tuple_bytes;	/* mean of an index tuple, aligned */
	double		pages;			/* of the table, that were read */
	double		read_ms;		/* that reading them took */
} DbOptIndexSample;

/* What the planner expects. */
typedef struct DbOptIndexCounts
{
	double		heap_pages;		/* of the table, as it is now */
	double		table_rows;
	double		rows;			/* that meet the predicate */
	double		groups;			/* different keys of those */
} DbOptIndexCounts;

/*
 * Both as the table's owner, with a pinned search path, and holding a lock on
 * the table, which is one with storage of its own.  They run the index's
 * expressions and predicate.
 */
extern void dbopt_index_count(Relation rel, const DbOptIndexShape *shape,
							  DbOptIndexCounts *counts);
extern DbOptIndexSample *dbopt_index_sample(Relation rel,
											const DbOptIndexShape *shape,
											const DbOptIndexCounts *counts);

#endif							/* DBOPT_INDEX_SAMPLE_H */
