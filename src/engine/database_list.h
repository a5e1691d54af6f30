/*
 * database_list.h
 *		The databases in which workers may run.
 */
#ifndef DBOPT_DATABASE_LIST_H
#define DBOPT_DATABASE_LIST_H

#include "nodes/pg_list.h"

/* OIDs, in the caller's memory context.  Outside a transaction. */
extern List *dbopt_list_databases(void);

#endif							/* DBOPT_DATABASE_LIST_H */
