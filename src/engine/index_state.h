/*
 * index_state.h
 *		What dbopt has done about each declared index, and is to do.
 */
#ifndef DBOPT_INDEX_STATE_H
#define DBOPT_INDEX_STATE_H

#include "datatype/timestamp.h"
#include "engine/exec.h"
#include "engine/index_row.h"

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
	bool		built;			/* dbopt built it; index_own.h tells whether
								 * it is still there */
	DbOptIndexProgress progress;
	int			attempts;		/* begun since it was queued */
	TimestampTz next_attempt_at;
	char	   *error_code;		/* of the last failure; NULL: none */
	char	   *error_message;
	TimestampTz failed_at;		/* 0: never */
	int64		declaration;	/* dbopt_index_row_hash() of what the last
								 * attempt was for; 0: unknown */
	Oid			table;			/* that it was made on; InvalidOid: unknown */
	char	   *definition;		/* of the index that was built; NULL: unknown */
	bool		began_without;	/* an attempt that has not ended began without
								 * a valid index */
} DbOptIndexState;

extern const char *dbopt_index_progress_name(DbOptIndexProgress progress);

/* In a transaction; in the current memory context. */
extern List *dbopt_index_states(void);
extern DbOptIndexState *dbopt_index_state_find(List *states,
											   const char *name);

/*
 * Does the state belong to another declaration than the row is now?  NULL:
 * there is no such row.
 */
extern bool dbopt_index_state_outdated(const DbOptIndexState *state,
									   const DbOptIndexRow *row);

/* Was the index given up, as it is declared, and on the table there is now? */
extern bool dbopt_index_state_failed(const DbOptIndexState *state,
									 const DbOptIndexRow *row);

/*
 * Reads a state, or makes an idle one, that nobody else changes until the
 * transaction ends; and writes it.
 */
extern DbOptIndexState *dbopt_index_state_lock(const char *name);
extern void dbopt_index_state_write(const DbOptIndexState *state);

/*
 * For those who write one: nothing is to be done any longer, and nothing has
 * failed; or it has been queued, again from the beginning.
 */
extern void dbopt_index_state_settle(DbOptIndexState *state);
extern void dbopt_index_state_queue(DbOptIndexState *state, TimestampTz at);

/* For them, too: with what an attempt has failed now. */
extern void dbopt_index_state_note_error(DbOptIndexState *state,
										 const DbOptFailure *failure);

/*
 * Its index is not declared any longer: what dbopt has built is all that is
 * remembered.  For those who have locked it.
 */
extern void dbopt_index_state_forget(DbOptIndexState *state);

/*
 * Writes that it is to be built as it is declared now, as if it had not been
 * tried; or that nothing is to be done, where it is not declared any longer
 * (NULL), or switched off.  For those who have locked it.
 */
extern void dbopt_index_state_renew(DbOptIndexState *state,
									const DbOptIndexRow *row,
									TimestampTz now);

/*
 * What has failed and is declared in another way now is queued, as if it had
 * not been tried; states of what is not declared any longer are forgotten.
 * Leaves it for the next time while somebody else writes states.
 */
extern void dbopt_index_states_tidy(TimestampTz now);

#endif							/* DBOPT_INDEX_STATE_H */
