/*
 * backlog_estimate.h
 *		How many events there are behind a log position, without counting.
 */
#ifndef DBOPT_BACKLOG_ESTIMATE_H
#define DBOPT_BACKLOG_ESTIMATE_H

#include "engine/log.h"

extern int64 dbopt_waiting_estimate(const DbOptLog *log,
									const char *event_type, int64 position);

#endif							/* DBOPT_BACKLOG_ESTIMATE_H */
