/*
 * index_rate.h
 *		How long builds take on this server, held against what was reckoned.
 */
#ifndef DBOPT_INDEX_RATE_H
#define DBOPT_INDEX_RATE_H

#include "postgres_ext.h"

/* Is there anything to learn with?  Not in a database of SQL version 1.0. */
extern bool dbopt_index_rate_kept(void);

/*
 * By what the reckoned time of a build of this access method and as many rows
 * is to be multiplied: 1 when this server has built nothing like it.
 */
extern double dbopt_index_rate(Oid am, double rows);

/* A build has been finished.  In a transaction of its own. */
extern void dbopt_index_rate_learn(Oid am, double rows, double reckoned_ms,
								   double taken_ms);

#endif							/* DBOPT_INDEX_RATE_H */
