/*
 * source_state.h
 *		Is an attached table fit for delivery?
 */
#ifndef DBOPT_SOURCE_STATE_H
#define DBOPT_SOURCE_STATE_H

/*
 * Looks at every attached table and handler, or at one table, and writes down
 * the state, the reason, and the present names; forgets a table that was
 * dropped once no handler is registered on it.  In a transaction.  A table
 * that somebody has locked exclusively is left as it is.
 */
extern void dbopt_source_refresh_states(void);
extern void dbopt_source_refresh(int32 source_id);

/*
 * The same for all, without waiting for a row that somebody is changing.
 * False: something was left as it is.
 */
extern bool dbopt_source_try_refresh_states(void);

/* The largest number of missing indexes whose statements a reason tells. */
#define DBOPT_REASON_STATEMENTS 8

#endif							/* DBOPT_SOURCE_STATE_H */
