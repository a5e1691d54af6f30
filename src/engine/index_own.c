/*
 * index_own.c
 *		Which indexes dbopt has built.
 *
 * Run by backends, the scheduler and pool sessions.  In the database where it
 * was built, an index is known by its OID, and its name: who renames an index
 * keeps it.  A restore brings no OID; there an index is the one that was built
 * if it has the same schema, name and definition.
 *
 * Two definitions are the same if PostgreSQL prints the same: under settings
 * that do not depend on who asks.  An index that is being dropped or built anew,
 * or whose table is locked, is not waited for: its definition is unknown
 * meanwhile.
 */
#include "postgres.h"

#include "catalog/index.h"
#include "catalog/namespace.h"
#include "engine/catalog.h"
#include "engine/index_own.h"
#include "engine/index_settings.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

/* ---- definitions --------------------------------------------------------- */

static char *
print_definition(Oid index)
{
	int			guc_level = NewGUCNestLevel();
	char	   *definition;

	dbopt_index_settings_pin();
	definition = TextDatumGetCString(DirectFunctionCall1(pg_get_indexdef,
														 ObjectIdGetDatum(index)));
	AtEOXact_GUC(false, guc_level);
	return definition;
}

/*
 * NULL: it is not an index, or it or its table, which is opened for the names
 * of its columns, is in somebody's hands.  The table comes first, as for all
 * others.
 */
static char *
definition_of(Oid index)
{
	Oid			table = IndexGetRelation(index, true);
	char	   *definition = NULL;

	if (!OidIsValid(table) ||
		!ConditionalLockRelationOid(table, AccessShareLock))
		return NULL;
	if (ConditionalLockRelationOid(index, AccessShareLock))
	{
		if (IndexGetRelation(index, true) == table)
			definition = print_definition(index);
		UnlockRelationOid(index, AccessShareLock);
	}
	UnlockRelationOid(table, AccessShareLock);
	return definition;
}

static bool
is_same(const char *text, const char *other)
{
	return text !=NULL && other != NULL && strcmp(text, other) == 0;
}

/* ---- whose it is --------------------------------------------------------- */

static Oid
restored_index(const DbOptIndexState *state)
{
	Oid			schema = state->schema != NULL ?
	get_namespace_oid(state->schema, true) : InvalidOid;
	Oid			index = OidIsValid(schema) ?
	get_relname_relid(state->name, schema) : InvalidOid;

	return OidIsValid(index) && state->definition != NULL &&
		is_same(definition_of(index), state->definition) ? index : InvalidOid;
}

Oid
dbopt_index_own(const DbOptIndexState *state)
{
	if (!state->built)
		return InvalidOid;
	if (!OidIsValid(state->index))
		return restored_index(state);
	return OidIsValid(IndexGetRelation(state->index, true)) &&
		is_same(get_rel_name(state->index), state->name) ?
		state->index : InvalidOid;
}

void
dbopt_index_own_note(DbOptIndexState *state, Oid index)
{
	state->built = true;
	state->index = index;
	state->schema = get_namespace_name(get_rel_namespace(index));
	state->definition = definition_of(index);
}

/* ---- what has changed ---------------------------------------------------- */

static bool
is_noted(const DbOptIndexState *state, Oid index)
{
	DbOptIndexState present = *state;

	dbopt_index_own_note(&present, index);
	return present.definition == NULL ||
		(state->index == index && is_same(state->schema, present.schema) &&
		 is_same(state->definition, present.definition));
}

void
dbopt_index_own_refresh(void)
{
	Oid			table = dbopt_table_oid(DBOPT_INDEX_STATE);
	ListCell   *cell;

	if (get_attnum(table, "definition") == InvalidAttrNumber)
		return;					/* of version 1.0 */
	foreach(cell, dbopt_index_states())
	{
		DbOptIndexState *state = lfirst(cell);
		Oid			index = dbopt_index_own(state);

		if (!OidIsValid(index) || is_noted(state, index))
			continue;
		if (!ConditionalLockRelationOid(table, ShareRowExclusiveLock))
			return;
		state = dbopt_index_state_lock(state->name);
		if (dbopt_index_own(state) != index)
			continue;
		dbopt_index_own_note(state, index);
		dbopt_index_state_write(state);
	}
}
