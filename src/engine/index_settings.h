/*
 * index_settings.h
 *		The settings under which definitions of indexes are read and compared.
 */
#ifndef DBOPT_INDEX_SETTINGS_H
#define DBOPT_INDEX_SETTINGS_H

/* Until the GUC nest level that the caller has begun ends. */
extern void dbopt_index_settings_pin(void);

/* For what is left of the session: a pool session that builds. */
extern void dbopt_index_settings_keep(void);

#endif							/* DBOPT_INDEX_SETTINGS_H */
