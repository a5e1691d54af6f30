/*
 * index_check.c
 *		What CREATE INDEX refuses of a statement that can be analyzed.
 *
 * Run by whoever holds a declaration against its table, as the table's owner
 * and holding a lock on the table: what can never be built is told when it is
 * declared, not after an attempt, which on a partitioned table may have built
 * it on all partitions before.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/sysattr.h"
#include "catalog/heap.h"
#include "engine/index_check.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

/* ---- the access method --------------------------------------------------- */

static void
refuse_method(const IndexStmt *statement, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("access method \"%s\" does not support %s",
					statement->accessMethod, what)));
}

static void
check_order(const IndexStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->indexParams)
	{
		IndexElem  *element = lfirst_node(IndexElem, cell);

		if (element->ordering != SORTBY_DEFAULT)
			refuse_method(statement, "ASC/DESC options");
		if (element->nulls_ordering != SORTBY_NULLS_DEFAULT)
			refuse_method(statement, "NULLS FIRST/LAST options");
	}
}

static void
check_method(const IndexStmt *statement, const DbOptIndexShape *shape)
{
	IndexAmRoutine *am = GetIndexAmRoutineByAmId(shape->am, false);
	Datum		options = transformRelOptions((Datum) 0, statement->options,
											  NULL, NULL, false, false);

	if (shape->columns > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("cannot use more than %d columns in an index",
						INDEX_MAX_KEYS)));
	if (shape->is_unique && !am->amcanunique)
		refuse_method(statement, "unique indexes");
	if (shape->columns > shape->keys && !am->amcaninclude)
		refuse_method(statement, "included columns");
	if (shape->keys > 1 && !am->amcanmulticol)
		refuse_method(statement, "multicolumn indexes");
	if (!am->amcanorder)
		check_order(statement);
	(void) index_reloptions(am->amoptions, options, true);
}

/* ---- the columns --------------------------------------------------------- */

/* What is only included has no order, and nothing that would tell it. */
static void
check_included(const IndexElem *element)
{
	const char *what = NULL;

	if (element->collation != NIL)
		what = "a collation";
	else if (element->opclass != NIL)
		what = "an operator class";
	else if (element->ordering != SORTBY_DEFAULT)
		what = "ASC/DESC options";
	else if (element->nulls_ordering != SORTBY_NULLS_DEFAULT)
		what = "NULLS FIRST/LAST options";
	if (what != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("including column does not support %s", what)));
}

/* There are operator classes of types that cannot be stored, such as record. */
static void
check_storable(const IndexElem *element)
{
	if (element->expr != NULL)
		CheckAttributeType(element->indexcolname, exprType(element->expr),
						   exprCollation(element->expr), NIL, 0);
}

/* Which parameters an operator class has one of its functions knows. */
static void
check_parameters(Oid opclass, Datum parameters, uint16 procnum)
{
	Oid			type = get_opclass_input_type(opclass);
	RegProcedure function = procnum == 0 ? InvalidOid :
	get_opfamily_proc(get_opclass_family(opclass), type, type, procnum);
	local_relopts known;

	if (parameters == (Datum) 0)
		return;
	if (!RegProcedureIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("operator class %s has no options",
						generate_opclass_name(opclass))));
	init_local_reloptions(&known, 0);
	(void) OidFunctionCall1(function, PointerGetDatum(&known));
	(void) build_local_reloptions(&known, parameters, true);
}

static void
check_columns(const IndexStmt *statement, const DbOptIndexShape *shape)
{
	uint16		procnum =
	GetIndexAmRoutineByAmId(shape->am, false)->amoptsprocnum;
	ListCell   *cell;

	foreach(cell, statement->indexParams)
		check_storable(lfirst_node(IndexElem, cell));
	for (int i = 0; i < shape->keys; i++)
		check_parameters(shape->opclasses[i], shape->parameters[i], procnum);
	foreach(cell, statement->indexIncludingParams)
		check_included(lfirst_node(IndexElem, cell));
}

/* What a row has beside its columns changes without the row's being changed. */
static void
check_no_system_columns(const DbOptIndexShape *shape)
{
	Bitmapset  *used = NULL;

	for (int i = 0; i < shape->columns; i++)
		used = bms_add_member(used, shape->attnums[i] -
							  FirstLowInvalidHeapAttributeNumber);
	pull_varattnos((Node *) shape->expressions, 1, &used);
	pull_varattnos((Node *) shape->predicate, 1, &used);
	for (int i = FirstLowInvalidHeapAttributeNumber + 1; i < 0; i++)
		if (bms_is_member(i - FirstLowInvalidHeapAttributeNumber, used))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("index creation on system columns is not supported")));
}

/* ---- expressions --------------------------------------------------------- */

/* They have been simplified, which may have made a constant of a function. */
static void
check_immutable(List *expressions, const char *where)
{
	if (contain_mutable_functions((Node *) expressions))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("functions in index %s must be marked IMMUTABLE",
						where)));
}

/* ---- the partition key --------------------------------------------------- */

static bool
is_key(const DbOptIndexShape *shape, AttrNumber attnum)
{
	for (int i = 0; i < shape->keys; i++)
		if (shape->attnums[i] == attnum)
			return true;
	return false;
}

/* Rows of two partitions are never compared: their keys must differ there. */
static void
check_partition_key(Relation rel, const DbOptIndexShape *shape)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	for (int i = 0; i < key->partnatts; i++)
	{
		AttrNumber	attnum = key->partattrs[i];

		if (attnum == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("unsupported UNIQUE constraint with partition key definition"),
					 errdetail("UNIQUE constraints cannot be used when partition keys include expressions.")));
		if (!is_key(shape, attnum))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("unique constraint on partitioned table must include all partitioning columns"),
					 errdetail("UNIQUE constraint on table \"%s\" lacks column \"%s\" which is part of the partition key.",
							   RelationGetRelationName(rel),
							   get_attname(RelationGetRelid(rel), attnum, false))));
	}
}

/* ---- all of it ----------------------------------------------------------- */

void
dbopt_index_check(const IndexStmt *statement, Oid relid,
				  const DbOptIndexShape *shape)
{
	check_method(statement, shape);
	check_columns(statement, shape);
	check_no_system_columns(shape);
	check_immutable(shape->expressions, "expression");
	check_immutable(shape->predicate, "predicate");
	if (shape->is_unique &&
		get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
	{
		Relation	rel = relation_open(relid, NoLock);

		check_partition_key(rel, shape);
		relation_close(rel, NoLock);
	}
}
