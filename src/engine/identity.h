/*
 * identity.h
 *		Which database the data belongs to.
 *
 * dbopt's rows refer to tables, functions and roles by OID, and to
 * transactions by log positions; both mean something in one database of one
 * cluster only.
 */
#ifndef DBOPT_IDENTITY_H
#define DBOPT_IDENTITY_H

/* Writes this database's identity where there is none yet, as the owner. */
extern void dbopt_identity_store(void);

/*
 * Makes data that was restored or copied this database's: finds tables,
 * functions and roles by their names, and moves the positions of new events
 * behind all that are stored.  What is not found becomes 'broken' when
 * dbopt_source_refresh_states() looks at it, which is to follow.
 */
extern void dbopt_identity_adopt(void);

#endif							/* DBOPT_IDENTITY_H */
