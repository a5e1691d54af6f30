/*
 * row_jsonb.h
 *		Rows of a query as jsonb objects.
 */
#ifndef DBOPT_ROW_JSONB_H
#define DBOPT_ROW_JSONB_H

#include "access/tupdesc.h"
#include "lib/stringinfo.h"

typedef struct DbOptRowJsonb DbOptRowJsonb;

/* For rows of this kind; in the current memory context. */
extern DbOptRowJsonb *dbopt_row_jsonb_make(TupleDesc desc);

/*
 * Appends what to_jsonb() would make of the row, aligned as the type wants it.
 * The length of that is a multiple of 4 before and after.  What else is
 * allocated is in the current memory context.
 */
extern void dbopt_row_jsonb_append(const DbOptRowJsonb *rows,
								   const Datum *values, const bool *nulls,
								   StringInfo out);

#endif							/* DBOPT_ROW_JSONB_H */
