/*
 * pooled.h
 *		SQL of a caller's that is run in a pool session: from the caller's
 *		backend and back.
 *
 * The caller makes a segment of dynamic shared memory for each call, with the
 * request and a queue back; a session of its own role and database is given to
 * it (state/caller.h), runs the statements in one transaction, and sends rows,
 * notices and the error through the queue, in PostgreSQL's own protocol.
 */
#ifndef DBOPT_POOLED_H
#define DBOPT_POOLED_H

#include "compat.h"
#include "lib/stringinfo.h"
#include "port/atomics.h"
#include "state/shmem.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "utils/tuplestore.h"

typedef struct DbOptPooledRequest
{
	const char *policy;			/* for trying again */
	int			isolation;		/* XACT_..., or -1: as the role has it */
	int			nstatements;
	char	  **statements;		/* texts; all in one transaction */
	int			nparams;
	char	  **params;			/* of the only statement; NULL for null */
	int			role_limit;		/* sessions for the role's callers; -1: none */
} DbOptPooledRequest;

/*
 * By the caller: puts the rows of the last statement into the store, whose
 * only column is jsonb.  Raises what the session raised, and 53300 when there
 * was no session in time, 57P03 when the circuit breaker "database" is open,
 * 08006 when the session has gone, 40P01 when it waits for its own caller.
 */
extern void dbopt_pooled_call(const DbOptPooledRequest *request,
							  Tuplestorestate *store, TupleDesc desc);

/* By a session: runs the job, resets the session, says that it is idle, and answers. */
extern void dbopt_pooled_run(const DbOptJob *job);

/* ---- pooled_segment.c: what both sides know ------------------------------ */

typedef struct DbOptPooledSegment
{
	dsm_segment *segment;
	pg_atomic_uint32 *gone;		/* the caller does not wait any longer */
	shm_mq	   *queue;
} DbOptPooledSegment;

#define DBOPT_POOLED_QUEUE_SIZE	((Size) 65536)

/* Messages: rows; the end. */
#define DBOPT_POOLED_ROWS	'D'
#define DBOPT_POOLED_DONE	'C'

/* The first row's place in its message, type included: rows are aligned. */
#define DBOPT_POOLED_ROWS_START	8

extern void dbopt_pooled_segment_make(const DbOptPooledRequest *request,
									  DbOptPooledSegment *result);

/* false: the caller has gone.  The texts stay in the segment. */
extern bool dbopt_pooled_segment_open(dsm_handle handle,
									  DbOptPooledSegment *result);
extern void dbopt_pooled_segment_read(const DbOptPooledSegment *segment,
									  DbOptPooledRequest *request);

/* Gives the session those of its caller's settings that it takes over. */
extern void dbopt_pooled_segment_settings(const DbOptPooledSegment *segment);

/* A text in a series of them, NULL for null; the place moves behind it. */
extern void dbopt_pooled_text_put(StringInfo texts, const char *text);
extern char *dbopt_pooled_text_take(char **place);

/* ---- pooled_settings.c: what a caller's settings are --------------------- */

/* This process's, as a series of texts; good until they change. */
extern const StringInfoData *dbopt_pooled_settings_get(void);

/* Sets what differs. */
extern void dbopt_pooled_settings_apply(char *texts, int length);

/* ---- pooled_wire.c: the session's way to the caller ---------------------- */

/*
 * From here on, until the segment is detached, what the session says to its
 * client goes to the caller.
 */
extern void dbopt_pooled_wire_open(const DbOptPooledSegment *segment);

/*
 * Can a message of this length, or several that are no longer together, be sent
 * without waiting for the caller, even if it has not read any yet?
 */
extern bool dbopt_pooled_wire_has_room(Size length);

/* false: the caller has gone. */
extern bool dbopt_pooled_wire_send(char type, const char *data, Size length);

/* ---- pooled_rows.c ------------------------------------------------------- */

/* A receiver that sends each row as jsonb; and the last of them. */
extern struct _DestReceiver *dbopt_pooled_rows_create(void);

/* Puts the rows of a message, type included, into the store. */
extern void dbopt_pooled_rows_store(const char *message, Size length,
									Tuplestorestate *store, TupleDesc desc);

/* ---- pooled_breaker.c: the circuit breaker "database" --------------------- */

/*
 * By the caller: asks whether the call may go on, and raises 57P03 if not; gives
 * back what nothing has been reported of; reports how the call has ended.
 */
extern void dbopt_pooled_breaker_ask(void);
extern void dbopt_pooled_breaker_release(void);
extern void dbopt_pooled_breaker_success(void);
extern void dbopt_pooled_breaker_failure(void);
extern void dbopt_pooled_breaker_error(const ErrorData *error);

/* Its slot, for the log. */
extern int	dbopt_pooled_breaker_slot(void);

/* ---- pooled_wait.c: the caller's waits ----------------------------------- */

/* Raises 53300 with the reason. */
pg_noreturn extern void dbopt_pooled_raise_no_session(const DbOptCaller *caller);

/*
 * Raises 40P01 if the session that runs this backend's SQL waits, maybe by
 * way of others, for this backend.
 */
extern void dbopt_pooled_check_deadlock(void);

#endif							/* DBOPT_POOLED_H */
