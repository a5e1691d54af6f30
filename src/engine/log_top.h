/*
 * log_top.h
 *		The highest position of a log.
 */
#ifndef DBOPT_LOG_TOP_H
#define DBOPT_LOG_TOP_H

#include "engine/log.h"

/*
 * The highest log position of an event, or of one that is gone; -1: there has
 * been none.  One index descent for each event type.
 */
extern int64 dbopt_log_highest(DbOptLog *log);

#endif							/* DBOPT_LOG_TOP_H */
