/*
 * handlers.h
 *		Registered handlers, seen from the functions that manage them.
 */
#ifndef DBOPT_HANDLERS_H
#define DBOPT_HANDLERS_H

#include "fmgr.h"

/* What managing a handler needs to know of its row. */
typedef struct DbOptHandlerRow
{
	int32		handler_id;
	int32		source_id;
	Oid			role;
	Oid			events;			/* may be gone; InvalidOid: not resumed yet */
	bool		mark_processed;
	bool		ordered;
	char	   *event_type;
} DbOptHandlerRow;

/* Why a role may do what, in checks of rights. */
typedef struct DbOptHandlerTarget
{
	Oid			function;
	Oid			role;
	Oid			events;
	bool		mark_processed;
} DbOptHandlerTarget;

/* False when there is no handler of this name. */
extern bool dbopt_handler_row_find(const char *name, DbOptHandlerRow *row);

/*
 * The same, raising 42704 when there is none, and 42501 when the caller is
 * neither a member of the handler's role nor owns its events table.
 */
extern void dbopt_handler_row_get(const char *name, DbOptHandlerRow *row);
extern void dbopt_handler_check_manager(const char *name,
										const DbOptHandlerRow *row);

/* Registrations and removals wait for each other until the end. */
extern void dbopt_handlers_lock(void);

/*
 * Waits until none of the handler's events run, and keeps it that way until the
 * transaction ends.  55006, with the action in the message, when the caller is
 * the handler itself: what it runs could not be settled then.
 */
extern void dbopt_handler_stop(const char *name, int32 handler_id,
							   const char *action);

/* The name of a handler given as an argument; 22004 when it is null. */
extern char *dbopt_handler_name_arg(FunctionCallInfo fcinfo,
									int number);

/*
 * How the function takes events: "row", "array" or "jsonb".  42809 or 42P13,
 * with a hint, when it cannot be a handler of this table.
 */
extern const char *dbopt_handler_check_function(Oid function, Oid events);

/* 42501 or 55000, when caller or role lack a right that delivery needs. */
extern void dbopt_handler_check_rights(const DbOptHandlerTarget *target);

#endif							/* DBOPT_HANDLERS_H */
