/*
 * leave.h
 *		What a session that builds an index does when dbopt is dropped.
 */
#ifndef DBOPT_LEAVE_H
#define DBOPT_LEAVE_H

#include "engine/exec.h"

/*
 * After the build has ended, outside a transaction: lets whoever drops the
 * extension go on, then runs "clean_up" (in transactions of its own) until it
 * succeeds, a minute at most.  It must not touch dbopt's tables.  "what" was
 * to be built, for messages.
 */
extern void dbopt_leave(DbOptExecFunction clean_up, void *arg,
						const char *what);

#endif							/* DBOPT_LEAVE_H */
