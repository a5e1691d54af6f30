/*
 * log.h
 *		An events table read as a log: the events of one type in the order of
 *		(log_position, key).
 *
 * Reading is heap and index access alone, over the log index of the table or
 * of each of its leaf partitions, merged.  No privilege is checked here.
 */
#ifndef DBOPT_LOG_H
#define DBOPT_LOG_H

#include "access/tupconvert.h"
#include "engine/config.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/*
 * A place in the log.  With whole, everything at that position is meant, and
 * key is not set.
 */
typedef struct DbOptPlace
{
	int64		position;
	bool		whole;
	Datum		key;
} DbOptPlace;

/* A table that holds events: the events table itself, or a leaf of it. */
typedef struct DbOptLogLeaf
{
	Relation	rel;
	Relation	index;
	TupleConversionMap *to_root;	/* NULL: the same columns */
	AttrNumber	processed;		/* the column of that name, 0: none */
	TupleTableSlot *lock_slot;	/* of dbopt_mark_lock(); NULL at first */
} DbOptLogLeaf;

typedef struct DbOptLog
{
	Relation	root;
	AttrNumber	key_column;		/* of root */
	Oid			key_type;
	int16		key_length;
	bool		key_by_value;
	bool		unprocessed_only;	/* scans pass over processed events */
	bool		doubled_pass;	/* scans give both of two events in one place */
	List	   *members;		/* the table and all below it, by OID; NIL
								 * where it has no partitions */
	int			nleaves;
	DbOptLogLeaf *leaves;
} DbOptLog;

typedef struct DbOptLogScan DbOptLogScan;

/* An event that a scan has come to; valid until the scan's next step. */
typedef struct DbOptLogEvent
{
	int64		position;
	Datum		key;
	DbOptLogLeaf *leaf;
	TupleTableSlot *slot;		/* NULL in a scan for keys */
} DbOptLogEvent;

/* What a scan reads. */
typedef enum DbOptLogWhat
{
	DBOPT_LOG_ENTRIES,			/* places only, from the index alone: those of
								 * rows that are not visible as well */
	DBOPT_LOG_KEYS,				/* places only, from the index where possible */
	DBOPT_LOG_ROWS
} DbOptLogWhat;

/*
 * Opens and locks (ACCESS SHARE) the table and its partitions.  NULL, with the
 * reason in *problem, when the table, a column, its stamp trigger or a log index
 * is missing; dbopt_log_open() raises 55000 instead.
 */
extern DbOptLog *dbopt_log_open(Oid relid);

/*
 * The same for delivery: with unprocessed_only where events are marked, which
 * takes the column processed.
 */
extern DbOptLog *dbopt_log_open_source(const DbOptSource *source);
extern DbOptLog *dbopt_log_try_open(Oid relid, char **problem);
extern void dbopt_log_close(DbOptLog *log);

/*
 * A new snapshot (registered) to read the log with.  A partition that was
 * attached since the log was opened, and that this snapshot sees events in, is
 * not among the log's: then the log is opened anew.
 */
extern Snapshot dbopt_log_snapshot(DbOptLog **log);

/*
 * One more, in the midst of reading; 40001 when partitions have been attached
 * since the log was opened: the transaction is to be repeated.
 */
extern Snapshot dbopt_log_snapshot_again(const DbOptLog *log);

/*
 * Takes another one in the place of this one, which sees what the transaction
 * itself has done since.  False, and nothing is changed, when partitions have
 * been attached: the next transaction is to read on.
 */
extern bool dbopt_log_snapshot_renew(const DbOptLog *log, Snapshot *snapshot);

/*
 * Takes locks of this mode on the same tables, and those on their indexes that
 * opening the log takes, if they can be had at once, beside what others wait
 * for; false: not all can, and some may have been taken.
 */
extern bool dbopt_log_try_lock(Oid relid, LOCKMODE mode);

/*
 * The events of a type behind "from", up to and including "to" (NULL: to the
 * end).  Two events in one place are an error (23505).
 */
extern DbOptLogScan *dbopt_log_scan_begin(DbOptLog *log, Snapshot snapshot,
										  const char *event_type,
										  const DbOptPlace *from,
										  const DbOptPlace *to,
										  DbOptLogWhat what);

/* The one event in a place, which is not a whole position. */
extern DbOptLogScan *dbopt_log_find_begin(DbOptLog *log, Snapshot snapshot,
										  const char *event_type,
										  const DbOptPlace *place);
extern bool dbopt_log_scan_next(DbOptLogScan *scan, DbOptLogEvent *event);

/* How many processed events it has not returned. */
extern int64 dbopt_log_scan_passed_over(const DbOptLogScan *scan);
extern void dbopt_log_scan_end(DbOptLogScan *scan);

/* The event types in the log, in order, as C strings. */
extern List *dbopt_log_event_types(DbOptLog *log, Snapshot snapshot);

/* Keys as text, as they are stored in our tables. */
extern char *dbopt_log_key_to_text(const DbOptLog *log, Datum key);
extern Datum dbopt_log_key_from_text(const DbOptLog *log, const char *text);
extern Datum dbopt_log_key_copy(const DbOptLog *log, Datum key);

/* Are two places those of the same event? */
extern bool dbopt_log_same_event(const DbOptLog *log, const DbOptPlace *a,
								 const DbOptPlace *b);

/* The event as a row of the events table itself; palloc'd. */
extern Datum dbopt_log_event_row(const DbOptLog *log,
								 const DbOptLogEvent *event);

#endif							/* DBOPT_LOG_H */
