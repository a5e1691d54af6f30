/*
 * predecessor.h
 *		Whether the events before those of an ordered handler are through.
 */
#ifndef DBOPT_PREDECESSOR_H
#define DBOPT_PREDECESSOR_H

#include "engine/ordered.h"

/*
 * Sets behind_open of the events.  Called with the aggregates' locks held and
 * the snapshot taken after them.
 */
extern void dbopt_predecessors_find(DbOptOrdered *ordered);

#endif							/* DBOPT_PREDECESSOR_H */
