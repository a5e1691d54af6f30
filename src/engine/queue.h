/*
 * queue.h
 *		The rows of dbopt_retry_queue and dbopt_dead_letter: events that have
 *		failed.
 */
#ifndef DBOPT_QUEUE_H
#define DBOPT_QUEUE_H

#include "catalog/indexing.h"
#include "datatype/timestamp.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/log.h"
#include "storage/itemptr.h"

/*
 * An event that has failed, or is held back before its first attempt.  Keys
 * are text, as in our tables.
 */
typedef struct DbOptFailed
{
	int64		position;
	char	   *key;
	char	   *event_type;
	int			attempts;		/* so far */
	TimestampTz first_failed_at;	/* 0: now */
	TimestampTz retry_at;		/* 0: a dead letter */
	DbOptFailure failure;		/* the last one; without a message: there was
								 * none */
	bool		untried;		/* queued before its first attempt */
	int			suspicion;		/* of a crash: see suspect.h */
	bool		queued;			/* it has a row in the retry queue: tid */
	ItemPointerData tid;
} DbOptFailed;

/* Both tables, open for writing. */
typedef struct DbOptQueue
{
	Relation	retries;
	CatalogIndexState retry_indexes;
	Relation	dead;
	CatalogIndexState dead_indexes;
	bool		skipped;		/* a claim has left out what another had */
} DbOptQueue;

extern void dbopt_queue_open(DbOptQueue *queue);
extern void dbopt_queue_close(DbOptQueue *queue);

/* Writes a failed event down where it belongs, "now" being its failure. */
extern void dbopt_queue_put(DbOptQueue *queue, int32 handler_id,
							const DbOptFailed *failed, TimestampTz now);

/* Changes when a queued event is due, and nothing else. */
extern void dbopt_queue_postpone(DbOptQueue *queue, const DbOptFailed *failed,
								 TimestampTz retry_at);

/* The same of a row of the retry queue. */
extern void dbopt_queue_set_time(DbOptQueue *queue, HeapTuple tuple,
								 TimestampTz retry_at);

/* A queued event is done with. */
extern void dbopt_queue_remove(DbOptQueue *queue, const DbOptFailed *failed);

/*
 * Locks at most "limit" retries of a handler that are due at "now" and of this
 * suspicion, in the order of their times, starting at "since"; those that
 * another session has are passed over.
 */
extern List *dbopt_queue_claim(DbOptQueue *queue, int32 handler_id,
							   int suspicion, TimestampTz since,
							   TimestampTz now, int limit);

/* Locks one event of the queue; a list of it, or NIL. */
extern List *dbopt_queue_claim_event(DbOptQueue *queue, int32 handler_id,
									 int64 position, const char *key);

/*
 * Locks one event that is under no suspicion and is due at "now", or held back:
 * before its first attempt, or without end.  NULL: it is not, or another
 * session has it.
 */
extern DbOptFailed *dbopt_queue_claim_held(DbOptQueue *queue,
										   int32 handler_id, int64 position,
										   const char *key, TimestampTz now);

/*
 * The handler's first due retry under a suspicion up to "highest", not locked;
 * NULL: none.
 */
extern DbOptFailed *dbopt_queue_suspect(int32 handler_id, int highest,
										TimestampTz now);

/*
 * Locks one event's retry, if it is as "failed" was when it was claimed: no
 * other session has tried it since.  NULL: it is not, or another one has it.
 */
extern DbOptFailed *dbopt_queue_claim_again(DbOptQueue *queue,
											int32 handler_id,
											const DbOptFailed *failed);

/* What has become of an event that was held back. */
typedef enum DbOptReleased
{
	DBOPT_RELEASED_NONE,		/* it is not in the queue */
	DBOPT_RELEASED_DUE,			/* it is due now, or was already */
	DBOPT_RELEASED_LATER		/* it keeps its time */
} DbOptReleased;

/*
 * Makes a queued event due at "now", if it has no time of its own: without
 * one are those that are held back without end and, with untried, all before
 * their first attempt.  One that another session has claimed is due.
 */
extern DbOptReleased dbopt_queue_release(DbOptQueue *queue, int32 handler_id,
										 int64 position, const char *key,
										 bool untried, TimestampTz now);

/* Does the snapshot see the event in the queue? */
extern bool dbopt_queue_has(int32 handler_id, int64 position,
							const char *key, Snapshot snapshot);

/*
 * The time of the first retry behind "after" that is under no suspicion;
 * PG_INT64_MAX: there is none.
 */
extern TimestampTz dbopt_queue_next(int32 handler_id, TimestampTz after);

#endif							/* DBOPT_QUEUE_H */
