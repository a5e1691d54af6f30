/*
 * isolation.h
 *		Isolation levels by their names.
 */
#ifndef DBOPT_ISOLATION_H
#define DBOPT_ISOLATION_H

#include "fmgr.h"

/* One of XACT_..., from an argument of an SQL function. */
extern int	dbopt_isolation_argument(FunctionCallInfo fcinfo, int number);

#endif							/* DBOPT_ISOLATION_H */
