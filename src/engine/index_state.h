/*
 * index_state.h
 *		What dbopt has done about each declared index, and is to do.
 */
#ifndef DBOPT_INDEX_STATE_H
#define DBOPT_INDEX_STATE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef enum DbOptIndexProgress
{
	DBOPT_INDEX_IDLE,			/* nothing is to be done */
	DBOPT_INDEX_QUEUED,			/* to be built at next_attempt_at */
	DBOPT_INDEX_BUILDING,		/* by a session, or left so by a crash */
	DBOPT_INDEX_FAILED			/* given up */
} DbOptIndexProgress;

typedef struct DbOptIndexState
{
	char	   *name;
	char	   *schema;			/* of the index that was built; NULL: none */
	Oid			index;			/* the one that was built; InvalidOid: none,
								 * or the one of that name, after a restore */
	bool		built;			/* dbopt built it */
	DbOptIndexProgress progress;
	int			attempts;		/* begun since it was queued */
	TimestampTz next_attempt_at;
	char	   *error_code;		/* of the last failure; NULL: none */
	char	   *error_message;
	TimestampTz failed_at;		/* 0: never */
} DbOptIndexState;

extern const char *dbopt_index_progress_name(DbOptIndexProgress progress);

/* In a transaction; in the current memory context. */
extern List *dbopt_index_states(void);
extern DbOptIndexState *dbopt_index_state_find(List *states,
											   const char *name);

/*
 * Reads a state, or makes an idle one, that nobody else changes until the
 * transaction ends; and writes it.
 */
extern DbOptIndexState *dbopt_index_state_lock(const char *name);
extern void dbopt_index_state_write(const DbOptIndexState *state);

/* Forgets it; nothing happens when there is none. */
extern void dbopt_index_state_delete(const char *name);

/* For those who write one: it has been queued, again from the beginning. */
extern void dbopt_index_state_queue(DbOptIndexState *state, TimestampTz at);

#endif							/* DBOPT_INDEX_STATE_H */
