/*
 * index_shape.h
 *		What makes two indexes the same.
 */
#ifndef DBOPT_INDEX_SHAPE_H
#define DBOPT_INDEX_SHAPE_H

#include "access/attnum.h"
#include "nodes/parsenodes.h"
#include "utils/relcache.h"

typedef struct DbOptIndexShape
{
	Oid			am;
	bool		is_unique;
	bool		nulls_not_distinct;
	int			keys;
	int			columns;		/* keys, and those that are included */
	AttrNumber *attnums;		/* 0: an expression */
	Oid		   *opclasses;		/* of the keys, as the next three */
	Oid		   *collations;
	int16	   *options;		/* INDOPTION_DESC and so on */
	Datum	   *parameters;		/* of the operator classes; 0: none */
	List	   *expressions;
	List	   *predicate;		/* implicitly ANDed */
} DbOptIndexShape;

/*
 * The shape that a statement (as dbopt_index_direct() leaves it) would give.
 * The statement is left alone.  Raises what CREATE INDEX would raise: to be
 * called as the table's owner, with a pinned search path, holding a lock.
 */
extern DbOptIndexShape *dbopt_index_shape(const IndexStmt *statement,
										  Oid relid, const char *source);

/*
 * What differs between the shape and an index of the same table, in words;
 * NULL: nothing.  To be called in the same state.
 */
extern const char *dbopt_index_difference(const DbOptIndexShape *shape,
										  Relation index);

#endif							/* DBOPT_INDEX_SHAPE_H */
