/*
 * handler_state.h
 *		Are a handler's function and role still there, may the role log in,
 *		and what are they called?
 */
#ifndef DBOPT_HANDLER_STATE_H
#define DBOPT_HANDLER_STATE_H

/* "name(type)", quoted and with the type's schema, as it is stored. */
extern char *dbopt_function_signature(Oid function);

/* What came of looking at the rows of sources or handlers. */
typedef struct DbOptLook
{
	bool		waits;			/* for rows that somebody has locked */
	bool		changed;		/* a row was written */
	bool		incomplete;		/* something was left out: somebody has it
								 * locked */
} DbOptLook;

/*
 * Looks at the function and role of every handler and writes down their
 * present names; without one of them, or when the role may not log in to this
 * database, a handler is 'broken'.  In a transaction
 * and between dbopt_owner_begin() and dbopt_owner_end().  Adds to *look.
 */
extern void dbopt_handlers_refresh(DbOptLook *look);

#endif							/* DBOPT_HANDLER_STATE_H */
