/*
 * index_check.h
 *		What CREATE INDEX refuses of a statement that can be analyzed.
 */
#ifndef DBOPT_INDEX_CHECK_H
#define DBOPT_INDEX_CHECK_H

#include "engine/index_shape.h"
#include "nodes/parsenodes.h"

/*
 * Raises what CREATE INDEX would raise, in its words: a method that cannot do
 * it, too many columns, system columns, types that cannot be stored, an order
 * of included columns, functions that are not immutable, parameters of the
 * index or of operator classes, uniqueness without the partition key.  The
 * statement has been analyzed, and the shape was made of it; called in the same
 * state as dbopt_index_shape().
 */
extern void dbopt_index_check(const IndexStmt *statement, Oid relid,
							  const DbOptIndexShape *shape);

#endif							/* DBOPT_INDEX_CHECK_H */
