/*
 * index_build.h
 *		The statements that make, rename and drop indexes.
 */
#ifndef DBOPT_INDEX_BUILD_H
#define DBOPT_INDEX_BUILD_H

#include "engine/index_target.h"

/* ---- in the present transaction ---- */

/* CREATE INDEX under this name on the target's table; returns the index. */
extern Oid	dbopt_index_create(const DbOptIndexTarget *target,
							   const char *name);

/*
 * Gives one index the name of another, which gets a name to be dropped;
 * InvalidOid: nothing has the name.
 */
extern void dbopt_index_swap(Oid new, Oid old, const char *name,
							 const char *old_name);

/* DROP INDEX of a partitioned index. */
extern void dbopt_index_drop(Oid index);

/*
 * DROP INDEX CONCURRENTLY in a transaction that has done nothing yet; another
 * one is open when it returns.
 */
extern void dbopt_index_drop_here(const char *schema, const char *name);

/* ---- outside a transaction: these run several ---- */

/*
 * CREATE INDEX CONCURRENTLY under this name on a table, which is the target's
 * or a partition of it; false: the partition is no longer there.
 */
extern bool dbopt_index_create_concurrently(const DbOptIndexTarget *target,
											Oid relid, const char *name);

/* DROP INDEX CONCURRENTLY; nothing happens when there is none. */
extern void dbopt_index_drop_concurrently(const char *schema,
										  const char *name);

/* ---- names ---- */

/* Under which an index is built to take another's place: palloc'd. */
extern char *dbopt_index_new_name(const char *name);

/* Under which the other one waits to be dropped. */
extern char *dbopt_index_old_name(const char *name);

/*
 * What a partition's index may be called, as palloc'd names: the first one is
 * that of the first index there; another one that takes its place needs another
 * name.
 */
extern List *dbopt_index_part_names(Oid part, const char *name);

/*
 * What the library of version 1.0 called it, which did not tell names apart
 * that it had to cut.
 */
extern List *dbopt_index_part_cut_names(Oid part, const char *name);

#endif							/* DBOPT_INDEX_BUILD_H */
