/*
 * index_build.h
 *		The statements that make, rename and drop indexes.
 */
#ifndef DBOPT_INDEX_BUILD_H
#define DBOPT_INDEX_BUILD_H

#include "engine/index_target.h"

/*
 * CREATE INDEX under the declared name, in the present transaction.  Returns
 * the index.
 */
extern Oid	dbopt_index_create(const DbOptIndexTarget *target);

#endif							/* DBOPT_INDEX_BUILD_H */
