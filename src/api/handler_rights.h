/*
 * handler_rights.h
 *		What a caller may see and change of which handler, where no name was
 *		given that could be refused.
 */
#ifndef DBOPT_HANDLER_RIGHTS_H
#define DBOPT_HANDLER_RIGHTS_H

#include "engine/config.h"

/* May the caller see error texts, which may hold data of events? */
extern bool dbopt_handler_shows_errors(const DbOptHandler *handler);

/* May the caller change it, as its role or as the owner of its table? */
extern bool dbopt_handler_is_managed(const DbOptHandler *handler);

#endif							/* DBOPT_HANDLER_RIGHTS_H */
