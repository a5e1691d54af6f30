/*
 * attach.h
 *		Attaching a table, for the functions that do it.
 */
#ifndef DBOPT_ATTACH_H
#define DBOPT_ATTACH_H

/* Attaches the table; key_column NULL: its primary key. */
extern void dbopt_attach_table(Oid relid, const char *key_column);

/* Raises 55000 in a database that was restored or copied and not resumed. */
extern void dbopt_require_identity(void);

#endif							/* DBOPT_ATTACH_H */
