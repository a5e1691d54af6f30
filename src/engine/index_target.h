/*
 * index_target.h
 *		A declared index, held against the database.
 */
#ifndef DBOPT_INDEX_TARGET_H
#define DBOPT_INDEX_TARGET_H

#include "engine/exec.h"
#include "engine/index_row.h"
#include "engine/index_shape.h"
#include "nodes/parsenodes.h"

typedef enum DbOptIndexCondition
{
	DBOPT_INDEX_VALID,
	DBOPT_INDEX_INVALID,		/* there, but a build did not finish */
	DBOPT_INDEX_DIFFERENT,		/* another index has the name */
	DBOPT_INDEX_MISSING,
	DBOPT_INDEX_INAPPLICABLE	/* it cannot be built here */
} DbOptIndexCondition;

typedef struct DbOptIndexTarget
{
	const DbOptIndexRow *row;
	DbOptIndexCondition condition;
	char	   *reason;			/* of the condition; NULL: none */
	Oid			relid;			/* the table; InvalidOid: not there */
	Oid			owner;			/* of the table */
	Oid			index;			/* of the declared name; InvalidOid: none */
	bool		locked;			/* the table or the index is locked
								 * exclusively: not compared */
	IndexStmt  *statement;		/* what would build it; NULL: inapplicable */
	const char *source;			/* that the statement was parsed from */
	DbOptIndexShape *shape;		/* unless inapplicable */
} DbOptIndexTarget;

/*
 * Finds out how things stand.  In a transaction; takes ACCESS SHARE on the
 * table and the index without waiting, for the time of the call.  Results are in the current
 * memory context.
 */
extern void dbopt_index_examine(const DbOptIndexRow *row,
								DbOptIndexTarget *target);

/* What about this relation forbids an index of ours; NULL: nothing. */
extern const char *dbopt_index_unfit(Oid relid);

/*
 * Becomes the table's owner, who can do nothing but what an index build may
 * do, under the settings of index_settings.c.  To be ended, unless an error is raised.
 */
typedef struct DbOptIndexScope
{
	Oid			user;
	int			security_context;
	int			guc_level;
} DbOptIndexScope;

extern void dbopt_index_scope_begin(DbOptIndexScope *scope, Oid owner);
extern void dbopt_index_scope_end(const DbOptIndexScope *scope);

/* After dbopt_exec_try(): who cancels a statement cancels all of it. */
extern void dbopt_index_pass_cancel(const DbOptFailure *failure);

#endif							/* DBOPT_INDEX_TARGET_H */
