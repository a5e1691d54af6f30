/*
 * builder.h
 *		Which role's session builds an index.
 */
#ifndef DBOPT_BUILDER_H
#define DBOPT_BUILDER_H

/* Could no session be started for this role when one was wanted last? */
extern bool dbopt_builder_fails(Oid role);

/*
 * Can it have a session, and could that create an index on the table and on
 * each of its partitions?  In a transaction.  Where the table's owner cannot, a
 * superuser's session can, and CREATE INDEX itself becomes the owner, in a
 * security-restricted operation.
 */
extern bool dbopt_builder_can(Oid role, Oid relid);

#endif							/* DBOPT_BUILDER_H */
