/*
 * key_defaults.h
 *		Defaults of columns that are dbopt_uuid_v7().
 */
#ifndef DBOPT_KEY_DEFAULTS_H
#define DBOPT_KEY_DEFAULTS_H

#include "nodes/pg_list.h"

/* The tables of the caller's that have one, partitions each by itself. */
extern List *dbopt_key_default_tables(void);

/* Gives those columns a default of the server's own; tells the caller. */
extern void dbopt_key_defaults_replace(void);

#endif							/* DBOPT_KEY_DEFAULTS_H */
