/*
 * watch.h
 *		Has anything changed that an attached table or a handler stands on?
 */
#ifndef DBOPT_WATCH_H
#define DBOPT_WATCH_H

#include "engine/config.h"

/*
 * Watches the tables, functions, schemas and roles of this configuration from
 * now on: to be called before they are looked at.  In a transaction.
 */
extern void dbopt_watch_begin(const DbOptConfig *config);

/* Has one of them changed since then? */
extern bool dbopt_watch_disturbed(void);

#endif							/* DBOPT_WATCH_H */
