/*
 * index_size.h
 *		How large an index will be, from its shape and its table.
 */
#ifndef DBOPT_INDEX_SIZE_H
#define DBOPT_INDEX_SIZE_H

#include "engine/index_shape.h"
#include "utils/relcache.h"

typedef struct DbOptIndexSize
{
	double		table_rows;
	double		rows;			/* of those, that it holds */
	double		bytes;
	double		entries;		/* that a build sorts: rows, or keys of an
								 * inverted index */
	double		keys;			/* of an inverted index; 0: it is none */
	double		ms;				/* that a concurrent build takes */
} DbOptIndexSize;

/*
 * Fill factor 0: the access method's own.  As the table's owner, with a pinned
 * search path, holding a lock on the table, which has storage of its own.
 */
extern void dbopt_index_size(Relation rel, const DbOptIndexShape *shape,
							 int fillfactor, DbOptIndexSize *size);

#endif							/* DBOPT_INDEX_SIZE_H */
