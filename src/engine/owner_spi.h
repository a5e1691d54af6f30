/*
 * owner_spi.h
 *		Statements on dbopt's own tables, run as the extension's owner.
 *
 * Nobody but the installer has rights on dbopt's tables, so SQL-callable
 * functions reach them this way:
 *
 *		DbOptOwnerScope scope;
 *		DbOptOwnerArgs args = {0};
 *
 *		dbopt_owner_begin(&scope);
 *		dbopt_owner_bind_text(&args, name);
 *		rows = dbopt_owner_execute(statement, &args);
 *		for (row = 0; row < rows; row++)
 *			value = dbopt_owner_text(row, 1);
 *		dbopt_owner_end(&scope);
 *
 * Between begin and end runs nothing but constant text with parameters:
 * never a handler, a cast or an expression of somebody else's.  Check rights
 * before begin, with GetUserId(): after it that is the owner.
 */
#ifndef DBOPT_OWNER_SPI_H
#define DBOPT_OWNER_SPI_H

#include "datatype/timestamp.h"

#define DBOPT_OWNER_MAX_ARGS 24

/* What dbopt_owner_end() puts back; abort puts it back by itself. */
typedef struct DbOptOwnerScope
{
	Oid			user;
	int			security_context;
	int			guc_level;
} DbOptOwnerScope;

/* The values of $1, $2, ... in the order they were bound; all zero is none. */
typedef struct DbOptOwnerArgs
{
	int			count;
	Oid			types[DBOPT_OWNER_MAX_ARGS];
	Datum		values[DBOPT_OWNER_MAX_ARGS];
	char		nulls[DBOPT_OWNER_MAX_ARGS];
} DbOptOwnerArgs;

/* A query whose plan a process keeps; static, with nothing set but "sql". */
typedef struct DbOptOwnerPlan
{
	const char *sql;			/* constant, as for dbopt_sql() */
	char	   *statement;		/* that has been planned */
	struct _SPI_plan *plan;		/* NULL: there is none yet */
} DbOptOwnerPlan;

/*
 * Becomes the owner of a table, with a pinned search path, and goes back: for
 * what runs code of that owner's, in a security-restricted operation.
 */
extern void dbopt_owner_switch(DbOptOwnerScope *scope, Oid owner,
							   int security_context);
extern void dbopt_owner_switch_back(const DbOptOwnerScope *scope);

extern void dbopt_owner_begin(DbOptOwnerScope *scope);
extern void dbopt_owner_begin_as(DbOptOwnerScope *scope, Oid owner,
								 int security_context);
extern void dbopt_owner_pin(const char *name, const char *value);
extern void dbopt_owner_end(const DbOptOwnerScope *scope);

extern void dbopt_owner_bind(DbOptOwnerArgs *args, Oid type, Datum value);
extern void dbopt_owner_bind_null(DbOptOwnerArgs *args, Oid type);
extern void dbopt_owner_bind_text(DbOptOwnerArgs *args, const char *value);

extern uint64 dbopt_owner_execute(const char *statement,
								  const DbOptOwnerArgs *args);
extern uint64 dbopt_owner_query(const char *statement,
								const DbOptOwnerArgs *args);
extern uint64 dbopt_owner_query_kept(DbOptOwnerPlan *kept,
									 const DbOptOwnerArgs *args);

extern Datum dbopt_owner_value(uint64 row, int column, bool *isnull);
extern char *dbopt_owner_text(uint64 row, int column);
extern int64 dbopt_owner_int64(uint64 row, int column);

#endif							/* DBOPT_OWNER_SPI_H */
