/*
 * events_table.c
 *		What a table must have to be attached.
 *
 * Run by the backend that calls dbopt_attach_events().  Each check raises an
 * error that says what is wrong, and a hint that says how to mend it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "api/events_table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "compat.h"
#include "engine/log_index.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define ATTACHABLE_HINT "An ordinary or partitioned table can be attached."

/* What a person calls a relation that cannot be attached; NULL: it can be. */
static const char *
unfit_kind(char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			return NULL;
		case RELKIND_VIEW:
			return "a view";
		case RELKIND_MATVIEW:
			return "a materialized view";
		case RELKIND_FOREIGN_TABLE:
			return "a foreign table";
		case RELKIND_SEQUENCE:
			return "a sequence";
		case RELKIND_COMPOSITE_TYPE:
			return "a composite type";
		case RELKIND_TOASTVALUE:
			return "a TOAST table";
		default:
			return "an index";
	}
}

static void
check_owner(Oid relid)
{
	char	   *name = get_rel_name(relid);
	const char *unfit;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	unfit = unfit_kind(get_rel_relkind(relid));
	if (unfit != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is %s", name, unfit),
				 errhint(ATTACHABLE_HINT)));
	if (!dbopt_owns_class(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
}

/*
 * The rights come first, so that nobody can lock another's table, and again
 * once it cannot change.  The root goes before its partitions, as everywhere.
 */
void
dbopt_events_table_lock(Oid relid)
{
	check_owner(relid);
	LockRelationOid(relid, AccessExclusiveLock);
	check_owner(relid);
	(void) find_all_inheritors(relid, AccessExclusiveLock, NULL);
}

/* Tables that are somebody else's to keep, or do not last. */
static void
check_kind(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	if (IsCatalogRelation(rel) || RelationGetRelid(rel) < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a system catalog", name),
				 errhint(ATTACHABLE_HINT)));
	if (OidIsValid(getExtensionOfObject(RelationRelationId,
										RelationGetRelid(rel))))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" belongs to an extension", name),
				 errhint(ATTACHABLE_HINT)));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is temporary", name),
				 errdetail("The sessions that deliver events would not see its rows."),
				 errhint(ATTACHABLE_HINT)));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is unlogged", name),
				 errdetail("A crash would empty it, and events would be lost."),
				 errhint("Run ALTER TABLE ... SET LOGGED first.")));
	if (OidIsValid(rel->rd_rel->reloftype))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is a typed table", name),
				 errhint("Run ALTER TABLE ... NOT OF first.")));
	if (rel->rd_rel->relforcerowsecurity)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" forces row level security on its owner",
						name),
				 errdetail("Events could be hidden from dbopt, which reads them as the table's owner."),
				 errhint("Run ALTER TABLE ... NO FORCE ROW LEVEL SECURITY first.")));
}

/* Partitions are attached through their root; inheritance is not known. */
static void
check_ancestry(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	if (rel->rd_rel->relispartition)
	{
		List	   *ancestors = get_partition_ancestors(relid);

		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is a partition",
						RelationGetRelationName(rel)),
				 errhint("Attach the partitioned table \"%s\".",
						 get_rel_name(llast_oid(ancestors)))));
	}
	if (has_superclass(relid) ||
		(rel->rd_rel->relkind == RELKIND_RELATION &&
		 find_inheritance_children(relid, AccessShareLock) != NIL))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is part of an inheritance tree",
						RelationGetRelationName(rel)),
				 errhint("Use a partitioned table.")));
}

static void
check_partitions(Relation rel)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(rel), AccessShareLock,
									  NULL))
	{
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition \"%s\" is a foreign table",
							get_rel_name(lfirst_oid(cell))),
					 errhint("Detach the partition first.")));
		if (get_rel_persistence(lfirst_oid(cell)) != RELPERSISTENCE_PERMANENT)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("partition \"%s\" is unlogged",
							get_rel_name(lfirst_oid(cell))),
					 errhint("Run ALTER TABLE ... SET LOGGED first.")));
	}
}

/* The column's description, or NULL when there is none. */
static Form_pg_attribute
find_column(Relation rel, const char *name)
{
	AttrNumber	number = get_attnum(RelationGetRelid(rel), name);

	return number > 0 ? TupleDescAttr(RelationGetDescr(rel), number - 1) : NULL;
}

/* A BEFORE trigger does not see what is generated. */
static void
check_not_generated(Relation rel, Form_pg_attribute column)
{
	if (column->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of table \"%s\" is a generated column",
						NameStr(column->attname),
						RelationGetRelationName(rel)),
				 errhint("Use an ordinary column.")));
}

static void
check_event_type(Relation rel)
{
	Form_pg_attribute column = find_column(rel, "event_type");

	if (column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"event_type\"",
						RelationGetRelationName(rel)),
				 errhint("Handlers are found by the event's type: add a column event_type of type text.")));
	if (!dbopt_type_is_text(column->atttypid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"event_type\" of table \"%s\" is of type %s",
						RelationGetRelationName(rel),
						format_type_be(column->atttypid)),
				 errhint("The column event_type must be of type text or varchar.")));
	check_not_generated(rel, column);
}

static void
check_log_position(Relation rel, DbOptEventsTable *events)
{
	Form_pg_attribute column = find_column(rel, "log_position");

	events->has_position = column != NULL;
	if (column == NULL)
		return;
	if (column->atttypid != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"log_position\" of table \"%s\" is of type %s",
						RelationGetRelationName(rel),
						format_type_be(column->atttypid)),
				 errhint("Rename the column: dbopt needs one of this name, of type bigint.")));
	if (column->attidentity != '\0' || column->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"log_position\" of table \"%s\" is an identity or generated column",
						RelationGetRelationName(rel)),
				 errhint("Rename the column: dbopt needs one of this name, which it fills in.")));
}

/* The columns of the primary key; 0 of them: it has none. */
static int
primary_key_columns(Relation rel, AttrNumber *first)
{
	ListCell   *cell;
	int			columns = 0;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(cell));
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisprimary)
		{
			columns = index->indnkeyatts;
			*first = index->indkey.values[0];
		}
		ReleaseSysCache(tuple);
	}
	return columns;
}

/* The column that the caller named for a key of several columns. */
static Form_pg_attribute
named_key(Relation rel, const char *name)
{
	Form_pg_attribute column;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("the primary key of table \"%s\" has more than one column",
						RelationGetRelationName(rel)),
				 errhint("Name the column that identifies an event: dbopt_attach_events(..., key_column => 'id').")));
	column = find_column(rel, name);
	if (column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", name,
						RelationGetRelationName(rel))));
	if (!column->attnotnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("key column \"%s\" of table \"%s\" may be null", name,
						RelationGetRelationName(rel)),
				 errhint("Run ALTER TABLE ... ALTER COLUMN ... SET NOT NULL first.")));
	return column;
}

static Form_pg_attribute
find_key(Relation rel, const char *name, bool *composite)
{
	AttrNumber	first = InvalidAttrNumber;
	int			columns = primary_key_columns(rel, &first);
	Form_pg_attribute column;

	*composite = columns > 1;
	if (columns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(rel)),
				 errhint("Add a primary key of type uuid, bigint, integer or text.")));
	if (columns > 1)
		return named_key(rel, name);
	column = TupleDescAttr(RelationGetDescr(rel), first - 1);
	if (name != NULL && strcmp(name, NameStr(column->attname)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" is not the primary key of table \"%s\"",
						name, RelationGetRelationName(rel)),
				 errhint("The key is the column \"%s\"; key_column can be left out.",
						 NameStr(column->attname))));
	return column;
}

static void
check_key(Relation rel, const char *name, DbOptEventsTable *events)
{
	Form_pg_attribute column = find_key(rel, name, &events->composite_key);
	Oid			type = column->atttypid;

	if (!dbopt_type_is_key(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of table \"%s\" is of type %s",
						NameStr(column->attname),
						RelationGetRelationName(rel), format_type_be(type)),
				 errhint("The key must be of type uuid, bigint, integer, text or varchar.")));
	check_not_generated(rel, column);
	if (strcmp(NameStr(column->attname), "event_type") == 0 ||
		strcmp(NameStr(column->attname), "log_position") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("column \"%s\" of table \"%s\" cannot be the key",
						NameStr(column->attname),
						RelationGetRelationName(rel)),
				 errhint("The key identifies one event.")));
	events->key_column = pstrdup(NameStr(column->attname));
}

void
dbopt_events_table_check(Relation rel, const char *key_column,
						 DbOptEventsTable *events)
{
	Form_pg_attribute processed;

	memset(events, 0, sizeof(*events));
	check_kind(rel);
	check_ancestry(rel);
	check_partitions(rel);
	check_event_type(rel);
	check_key(rel, key_column, events);
	check_log_position(rel, events);

	events->relid = RelationGetRelid(rel);
	events->schema = get_namespace_name(RelationGetNamespace(rel));
	events->name = pstrdup(RelationGetRelationName(rel));
	events->qualified = quote_qualified_identifier(events->schema,
												   events->name);
	events->partitioned =
		rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	processed = find_column(rel, "processed");
	events->mark_processed = processed != NULL &&
		processed->atttypid == BOOLOID;
	if (events->mark_processed)
		check_not_generated(rel, processed);
}
