/*
 * config_read.h
 *		Reading sources, handlers and policies from their tables.
 */
#ifndef DBOPT_CONFIG_READ_H
#define DBOPT_CONFIG_READ_H

#include "engine/config.h"

/* All of it, in the current memory context.  In a transaction. */
extern DbOptConfig *dbopt_config_read(void);

/* Its database's identity, offset and pause alone; nothing without a row. */
extern void dbopt_config_read_database(DbOptConfig *config);

/* Is there any source by now?  Costs next to nothing where never one was. */
extern bool dbopt_config_has_sources(void);

#endif							/* DBOPT_CONFIG_READ_H */
