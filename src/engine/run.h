/*
 * run.h
 *		Running a chunk that has been handed out.
 */
#ifndef DBOPT_RUN_H
#define DBOPT_RUN_H

#include "engine/cursor.h"
#include "engine/delivery.h"

typedef enum DbOptRunResult
{
	DBOPT_RUN_SETTLED,			/* the chunk is gone, here or elsewhere */
	DBOPT_RUN_BLOCKED			/* a part is left: the breaker has opened, or
								 * the handler is broken (delivery->broken) */
} DbOptRunResult;

/*
 * Runs the events of a chunk and settles it, in transactions of its own.
 * Called and returns outside a transaction, with delivery->context current.
 */
extern DbOptRunResult dbopt_run_chunk(DbOptDelivery *delivery,
									  const DbOptCursor *cursor, int64 seq);

#endif							/* DBOPT_RUN_H */
