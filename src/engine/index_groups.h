/*
 * index_groups.h
 *		How many different keys several columns have together.
 */
#ifndef DBOPT_INDEX_GROUPS_H
#define DBOPT_INDEX_GROUPS_H

#include "access/attnum.h"
#include "utils/relcache.h"

/*
 * Of so many rows, when the columns do not depend on each other.  "values":
 * the different values of each column; attnums: 0 for an expression.
 */
extern double dbopt_index_groups(Relation rel, const AttrNumber *attnums,
								 const double *values, int columns,
								 double rows);

#endif							/* DBOPT_INDEX_GROUPS_H */
