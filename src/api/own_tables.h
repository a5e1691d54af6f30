/*
 * own_tables.h
 *		What others may not do to dbopt's own tables.
 */
#ifndef DBOPT_OWN_TABLES_H
#define DBOPT_OWN_TABLES_H

/*
 * A trigger has just been made: 42501 when it is on a table of dbopt's and of
 * somebody else's making.
 */
extern void dbopt_own_tables_check_trigger(Oid trigger);

#endif							/* DBOPT_OWN_TABLES_H */
