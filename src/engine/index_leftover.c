/*
 * index_leftover.c
 *		What builds that did not finish have left.
 *
 * Run by backends and pool sessions.  Reads pg_index itself: the relation
 * cache leaves out indexes whose DROP INDEX CONCURRENTLY did not finish.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "engine/index_build.h"
#include "engine/index_leftover.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Names that leftovers of one declared index have. */
typedef struct Names
{
	const char *declared;
	char	   *new;
	char	   *old;
	List	   *parts;			/* of a partition's index; NIL: this is not
								 * one */
} Names;

/*
 * Is this what REINDEX CONCURRENTLY calls a copy of an index of that name?  It
 * cuts a long one.
 */
static bool
is_copy_name(const char *name, const char *declared)
{
	const char *suffix = NULL;
	size_t		length;

	for (const char *found = strstr(name, "_cc"); found != NULL;
		 found = strstr(found + 1, "_cc"))
		suffix = found;
	if (suffix == NULL)
		return false;
	length = suffix - name;
	if (strncmp(suffix, "_ccnew", 6) != 0 && strncmp(suffix, "_ccold", 6) != 0)
		return false;
	if (strspn(suffix + 6, "0123456789") != strlen(suffix + 6))
		return false;
	return strncmp(name, declared, length) == 0 &&
		(declared[length] == '\0' || strlen(name) >= NAMEDATALEN - 4);
}

static bool
is_part_name(const char *name, List *parts)
{
	ListCell   *cell;

	foreach(cell, parts)
		if (strcmp(name, lfirst(cell)) == 0 || is_copy_name(name, lfirst(cell)))
		return true;
	return false;
}

static bool
is_leftover(Form_pg_index form, const char *name, const Names *names)
{
	if (strcmp(name, names->new) == 0 || strcmp(name, names->old) == 0)
		return true;
	if (form->indisvalid && form->indisready && form->indislive)
		return false;
	if (is_copy_name(name, names->declared))
		return true;
	return is_part_name(name, names->parts);
}

static DbOptIndexLeftover *
make_leftover(Oid index, char *name)
{
	DbOptIndexLeftover *leftover = palloc0(sizeof(DbOptIndexLeftover));

	leftover->index = index;
	leftover->name = name;
	leftover->schema = get_namespace_name(get_rel_namespace(index));
	leftover->partitioned =
		get_rel_relkind(index) == RELKIND_PARTITIONED_INDEX;
	return leftover;
}

/* Appends those of one table. */
static List *
add_leftovers(List *leftovers, Oid relid, const Names *names)
{
	Relation	catalog = table_open(IndexRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, IndexIndrelidIndexId, true, NULL, 1,
							  &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
		char	   *name = get_rel_name(form->indexrelid);

		if (name != NULL && is_leftover(form, name, names))
			leftovers = lappend(leftovers,
								make_leftover(form->indexrelid, name));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return leftovers;
}

List *
dbopt_index_leftovers(const DbOptIndexTarget *target)
{
	const char *declared = target->row->name;
	Names		names = {
		.declared = declared,
		.new = dbopt_index_new_name(declared),
		.old = dbopt_index_old_name(declared)
	};
	List	   *leftovers = add_leftovers(NIL, target->relid, &names);
	ListCell   *cell;

	if (get_rel_relkind(target->relid) != RELKIND_PARTITIONED_TABLE)
		return leftovers;
	foreach(cell, find_all_inheritors(target->relid, NoLock, NULL))
	{
		Oid			part = lfirst_oid(cell);

		if (part == target->relid || get_rel_name(part) == NULL)
			continue;
		names.parts = list_concat(dbopt_index_part_names(part, declared),
								  dbopt_index_part_cut_names(part, declared));
		leftovers = add_leftovers(leftovers, part, &names);
	}
	return leftovers;
}

DbOptIndexLeftover *
dbopt_index_unattached(Oid relid, const char *name)
{
	Oid			index = get_relname_relid(name, get_rel_namespace(relid));

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX ||
		IndexGetRelation(index, true) != relid ||
		get_rel_relispartition(index))
		return NULL;
	return make_leftover(index, pstrdup(name));
}

DbOptIndexLeftover *
dbopt_index_unfinished(const DbOptIndexTarget *target)
{
	Oid			index = get_relname_relid(target->row->name,
										  get_rel_namespace(target->relid));

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX ||
		IndexGetRelation(index, true) != target->relid ||
		get_index_isvalid(index))
		return NULL;
	return make_leftover(index, pstrdup(target->row->name));
}
