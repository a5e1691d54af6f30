/*
 * ddl.h
 *		Statements that change a caller's table, run as the caller.
 */
#ifndef DBOPT_DDL_H
#define DBOPT_DDL_H

typedef struct DbOptDdlScope
{
	int			guc_level;
} DbOptDdlScope;

/*
 * Between begin and end: connected to SPI as the caller, with a pinned search
 * path and a short lock_timeout unless the caller has set one.
 */
extern void dbopt_ddl_begin(DbOptDdlScope *scope);
extern void dbopt_ddl_end(const DbOptDdlScope *scope);

/* Runs a statement made with printf; identifiers come quoted. */
extern void dbopt_ddl(const char *format,...) pg_attribute_printf(1, 2);

#endif							/* DBOPT_DDL_H */
