/*
 * index_row.h
 *		The rows of dbopt_index: what is declared.
 */
#ifndef DBOPT_INDEX_ROW_H
#define DBOPT_INDEX_ROW_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"

typedef struct DbOptIndexRow
{
	char	   *name;
	char	   *table_name;		/* read as an identifier */
	char	   *definition;		/* what follows the table in CREATE INDEX */
	List	   *alternatives;	/* of char *: definitions for tables where the
								 * first does not apply */
	bool		is_unique;
	bool		enabled;
	bool		shipped;
	char	   *author;			/* NULL: a superuser */
	Oid			author_oid;		/* InvalidOid: a superuser, or one who is not
								 * there */
} DbOptIndexRow;

/* All rows, by name, in the current memory context. */
extern List *dbopt_index_rows(void);
extern DbOptIndexRow *dbopt_index_row_read(HeapTuple tuple, TupleDesc desc);
extern DbOptIndexRow *dbopt_index_row_find(List *rows, const char *name);

/* Tells one declaration from another; never 0. */
extern int64 dbopt_index_row_hash(const DbOptIndexRow *row);

/*
 * The schema and name in a row's table_name; schema is NULL where there is
 * none.  42602 when it is not one name, 42622 when a part is too long.
 */
extern void dbopt_index_table_name(const char *table_name, char **schema,
								   char **name);

/*
 * The table, or InvalidOid.  A name without a schema is looked for in the
 * extension's schema, then in public.
 */
extern Oid	dbopt_index_table_find(const char *table_name);

/* 42602, 42622 or 42939 when an index cannot be declared under this name. */
extern void dbopt_index_check_name(const char *name);

#endif							/* DBOPT_INDEX_ROW_H */
