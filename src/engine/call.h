/*
 * call.h
 *		Calling a handler: its function, looked up and checked once a
 *		transaction, and its argument.
 */
#ifndef DBOPT_CALL_H
#define DBOPT_CALL_H

#include "engine/config.h"
#include "engine/log.h"
#include "fmgr.h"

typedef struct DbOptCall
{
	const DbOptHandler *handler;
	Oid			row_type;
	FmgrInfo	function;
	FmgrInfo	to_jsonb;		/* for a handler that takes jsonb */
	Oid			converts_as;	/* who converts rows to jsonb; InvalidOid: the
								 * session's role */
	MemoryContext scratch;		/* of one call */
} DbOptCall;

/*
 * Looks the handler's function up in the current memory context, and checks
 * that the session's role may still run it on this table.  Returns NULL, or
 * the reason why the handler is broken.
 */
extern const char *dbopt_call_prepare(DbOptCall *call,
									  const DbOptHandler *handler,
									  const DbOptLog *log);

/*
 * Before each call: cancels are heard, the handler's time starts anew, and
 * what the call before has left in memory is gone.  Returns the memory context
 * for the call's argument, which is to be the current one during the call.
 */
extern MemoryContext dbopt_call_begin(DbOptCall *call);

/* Calls a handler that takes a row or jsonb. */
extern void dbopt_call_row(DbOptCall *call, Datum row);

/* Calls the handler for rows: one by one, or as one array. */
extern void dbopt_call_rows(DbOptCall *call, Datum *rows, int count);

#endif							/* DBOPT_CALL_H */
