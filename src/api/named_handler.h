/*
 * named_handler.h
 *		Handlers as SQL functions are given them: by name, by a caller who may
 *		or may not have to do with them.
 */
#ifndef DBOPT_NAMED_HANDLER_H
#define DBOPT_NAMED_HANDLER_H

#include "engine/config.h"

/* 42704 with a hint when there is none. */
extern DbOptHandler *dbopt_handler_named(const DbOptConfig *config,
										 const char *name);

/* Has the caller the rights of the handler's role? */
extern bool dbopt_handler_is_callers(const DbOptHandler *handler);

/* 42501 when not. */
extern void dbopt_handler_require_rights(const DbOptHandler *handler);

/* May the caller see error texts, which may hold data of events? */
extern bool dbopt_handler_shows_errors(const DbOptHandler *handler);

#endif							/* DBOPT_NAMED_HANDLER_H */
