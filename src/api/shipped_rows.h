/*
 * shipped_rows.h
 *		What the tables that ship with rows have in common.
 */
#ifndef DBOPT_SHIPPED_ROWS_H
#define DBOPT_SHIPPED_ROWS_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "engine/catalog.h"
#include "fmgr.h"

/* A table with shipped rows. */
typedef struct DbOptShippedTable
{
	DbOptTable	table;
	const char *row_kind;		/* for messages, as the next one */
	const char *identity_names;
	int			identity;		/* this many first columns identify a row */
	int			shipped;		/* column numbers */
	int			edited;
	void		(*check) (HeapTuple row, TupleDesc desc);
	void		(*check_unused) (HeapTuple row, TupleDesc desc);	/* or NULL */
	const char *instead;		/* of deleting a shipped row; a hint */
	HeapTuple	(*complete) (HeapTuple row, TupleDesc desc);	/* or NULL */
} DbOptShippedTable;

/* The whole of such a table's row trigger. */
extern Datum dbopt_shipped_guard(const DbOptShippedTable *kind,
								 FunctionCallInfo fcinfo);

/* Does the present statement load rows with COPY, as a restore does? */
extern bool dbopt_inside_copy(void);

extern char *dbopt_column_text(HeapTuple row, TupleDesc desc, int column);
extern bool dbopt_column_bool(HeapTuple row, TupleDesc desc, int column);

#endif							/* DBOPT_SHIPPED_ROWS_H */
