/*
 * pool_load.h
 *		How much of a database's session pool is in use.
 */
#ifndef DBOPT_POOL_LOAD_H
#define DBOPT_POOL_LOAD_H

#include "policy/health.h"

typedef struct DbOptPoolLoad
{
	int			used;
	int			free;
	int			total;			/* with those that start or stop */
	int			waiting;		/* jobs that could run and have no session */
	int			max;			/* that the database may have */
	double		utilization;	/* used, in per cent of max */
	DbOptHealth health;
} DbOptPoolLoad;

/* At this moment; takes dbopt_shared->lock. */
extern void dbopt_pool_load(Oid dboid, DbOptPoolLoad *load);

#endif							/* DBOPT_POOL_LOAD_H */
