/*
 * builder.h
 *		Which role's session builds an index.
 */
#ifndef DBOPT_BUILDER_H
#define DBOPT_BUILDER_H

/* Could no session be started for this role when one was wanted last? */
extern bool dbopt_builder_fails(Oid role);

/*
 * The table's owner, if he can have a session, and could create an index on the
 * table and on each of its partitions; else the deputy, a superuser, in whose
 * session CREATE INDEX itself becomes the owner, in a security-restricted
 * operation.  InvalidOid: the table is gone.  In a transaction.
 */
extern Oid	dbopt_builder_choose(Oid relid, Oid deputy);

#endif							/* DBOPT_BUILDER_H */
