/*
 * arguments.h
 *		Arguments of SQL functions.
 */
#ifndef DBOPT_ARGUMENTS_H
#define DBOPT_ARGUMENTS_H

#include "fmgr.h"

/* 22004 when the argument is null; the hint says what to give. */
extern void dbopt_argument_require(FunctionCallInfo fcinfo, int number,
								   const char *name, const char *hint);

#endif							/* DBOPT_ARGUMENTS_H */
