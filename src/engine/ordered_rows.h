/*
 * ordered_rows.h
 *		The rows of dbopt_ordered: the events of ordered handlers that are in
 *		the retry queue, by aggregate and version.
 */
#ifndef DBOPT_ORDERED_ROWS_H
#define DBOPT_ORDERED_ROWS_H

#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct DbOptOrderedRow
{
	int32		handler_id;
	int64		position;
	char	   *key;
	char	   *aggregate_type;
	char	   *aggregate_id;
	Datum		version;		/* numeric */
	ItemPointerData tid;
} DbOptOrderedRow;

/* The row of an event; NULL: it has none. */
extern DbOptOrderedRow *dbopt_ordered_row_find(int32 handler_id,
											   int64 position,
											   const char *key,
											   Snapshot snapshot);

/*
 * The rows of an aggregate, as DbOptOrderedRow *, lowest version first, at
 * most "limit" of them.
 */
extern List *dbopt_ordered_rows_lowest(int32 handler_id,
									   const char *aggregate_type,
									   const char *aggregate_id,
									   Snapshot snapshot, int limit);

/* The table is open, ROW EXCLUSIVE. */
extern void dbopt_ordered_row_insert(Relation rel,
									 const DbOptOrderedRow *row);
extern void dbopt_ordered_row_delete(Relation rel,
									 const ItemPointerData *tid);

#endif							/* DBOPT_ORDERED_ROWS_H */
