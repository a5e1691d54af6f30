/*
 * health.h
 *		Is this database's delivery well?  A row for each check, and the worst
 *		of them.
 */
#ifndef DBOPT_ENGINE_HEALTH_H
#define DBOPT_ENGINE_HEALTH_H

#include "engine/config.h"
#include "nodes/pg_list.h"
#include "policy/health.h"
#include "state/shmem.h"

typedef struct DbOptCheck
{
	const char *name;
	DbOptHealth status;
	char	   *detail;			/* names and numbers, no payload */
} DbOptCheck;

/*
 * All checks, as DbOptCheck *, the last one "overall", in the current memory
 * context.  In a transaction with a snapshot; reads a bounded number of rows
 * for each cursor and table, and waits for no lock on an events table.  Also
 * in a standby; the library must be preloaded.
 */
extern List *dbopt_health_look(void);

/* ---- what the files of the checks share ---------------------------------- */

/* A look that is under way. */
typedef struct DbOptHealthLook
{
	const DbOptConfig *config;
	TimestampTz now;
	MemoryContext context;		/* that the checks are in */
	bool		standby;
	int			nhandlers;
	DbOptHandler **handlers;
	DbOptHandlerState *states;	/* of these; all zero where there is none */
	List	   *checks;
} DbOptHealthLook;

extern void dbopt_health_add(DbOptHealthLook *look, const char *name,
							 DbOptHealth status, const char *format,...)
			pg_attribute_printf(4, 5);

/* A list of names for people: the first few, and how many more. */
typedef struct DbOptNames
{
	int			count;
	char	   *text;			/* NULL: none */
} DbOptNames;

extern void dbopt_names_add(DbOptNames *names, const char *name);
extern char *dbopt_names_text(const DbOptNames *names);

/* A duration in whole seconds for people: "75 s", "12 min", "3 h". */
extern char *dbopt_age_text(int64 microseconds);

/*
 * health_stored.c: the checks that read tables, sources and transactions; one
 * of them is health_backlog.c's.
 */
extern void dbopt_health_look_stored(DbOptHealthLook *look);
extern void dbopt_health_look_backlog(DbOptHealthLook *look);

#endif							/* DBOPT_ENGINE_HEALTH_H */
