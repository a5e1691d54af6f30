/*
 * primary.h
 *		Functions that a standby cannot run.
 */
#ifndef DBOPT_PRIMARY_H
#define DBOPT_PRIMARY_H

#include "fmgr.h"

/* Raises 25006 on a server that is in recovery, before anything is done. */
extern void dbopt_require_primary(FunctionCallInfo fcinfo);

#endif							/* DBOPT_PRIMARY_H */
