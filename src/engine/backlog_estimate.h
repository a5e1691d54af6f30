/*
 * backlog_estimate.h
 *		How many events a cursor has not handed out, without counting.
 */
#ifndef DBOPT_BACKLOG_ESTIMATE_H
#define DBOPT_BACKLOG_ESTIMATE_H

#include "engine/cursor.h"

/* Those in its holes, and those behind it. */
extern int64 dbopt_waiting_estimate(const DbOptLog *log,
									const char *event_type,
									const DbOptVersion *version);

#endif							/* DBOPT_BACKLOG_ESTIMATE_H */
