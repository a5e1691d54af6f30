/*
 * index_shape.c
 *		What makes two indexes the same: access method, columns, expressions,
 *		operator classes, collations, order, INCLUDE, predicate, uniqueness.
 *
 * Run by whoever compares what is declared with the catalogue, as the table's
 * owner and holding a lock on the table: analysis may run input functions,
 * and simplifying an expression may run any function that it calls.
 *
 * Tablespace, fill factor and the like are not compared: they can be changed
 * without building the index anew.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "engine/index_check.h"
#include "engine/index_shape.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_utilcmd.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* ---- from a statement ---------------------------------------------------- */

/* Fills the attnum (or adds the expression); returns the type. */
static Oid
shape_column(DbOptIndexShape *shape, int place, const IndexElem *element,
			 Oid relid, Oid *collation)
{
	Node	   *expression = element->expr;

	while (expression != NULL && IsA(expression, CollateExpr))
		expression = (Node *) ((CollateExpr *) expression)->arg;
	if (element->name != NULL)
		shape->attnums[place] = get_attnum(relid, element->name);
	else if (IsA(expression, Var))
		shape->attnums[place] = ((Var *) expression)->varattno;

	if (element->name != NULL &&
		shape->attnums[place] == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" does not exist", element->name)));
	if (element->name != NULL)
	{
		Oid			type;
		int32		typmod;

		get_atttypetypmodcoll(relid, shape->attnums[place], &type, &typmod,
							  collation);
		return type;
	}
	if (shape->attnums[place] == 0)
		shape->expressions = lappend(shape->expressions, expression);
	*collation = exprCollation(element->expr);
	return exprType(element->expr);
}

static int16
order_options(const IndexElem *element, bool can_order)
{
	bool		descending = element->ordering == SORTBY_DESC;
	int16		options = 0;

	if (!can_order)
		return 0;
	if (descending)
		options |= INDOPTION_DESC;
	if (element->nulls_ordering == SORTBY_NULLS_FIRST ||
		(element->nulls_ordering == SORTBY_NULLS_DEFAULT && descending))
		options |= INDOPTION_NULLS_FIRST;
	return options;
}

/* Raises what CREATE INDEX raises. */
static Oid
check_collation(Oid type, Oid collation)
{
	if (type_is_collatable(type) && !OidIsValid(collation))
		ereport(ERROR,
				(errcode(ERRCODE_INDETERMINATE_COLLATION),
				 errmsg("could not determine which collation to use for index expression"),
				 errhint("Use the COLLATE clause to set the collation explicitly.")));
	if (!type_is_collatable(type) && OidIsValid(collation))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("collations are not supported by type %s",
						format_type_be(type))));
	return collation;
}

static void
shape_key(DbOptIndexShape *shape, int place, const IndexElem *element,
		  Oid relid, const char *am_name)
{
	Oid			collation = InvalidOid;
	Oid			type = shape_column(shape, place, element, relid, &collation);

	if (element->collation != NIL)
		collation = get_collation_oid(element->collation, false);
	shape->collations[place] = check_collation(type, collation);
	shape->opclasses[place] = ResolveOpClass(element->opclass, type, am_name,
											 shape->am);
	shape->parameters[place] =
		transformRelOptions((Datum) 0, element->opclassopts, NULL, NULL,
							false, false);
	shape->options[place] =
		order_options(element,
					  GetIndexAmRoutineByAmId(shape->am, false)->amcanorder);
}

/* As simple as the settings of the moment make them. */
static List *
simplify_expressions(List *expressions)
{
	expressions = (List *) eval_const_expressions(NULL, (Node *) expressions);
	fix_opfuncids((Node *) expressions);
	return expressions;
}

static List *
simplify_predicate(Node *predicate)
{
	List	   *clauses;

	if (predicate == NULL)
		return NIL;
	predicate = (Node *) make_ands_explicit(make_ands_implicit((Expr *) predicate));
	predicate = eval_const_expressions(NULL, predicate);
	predicate = (Node *) canonicalize_qual((Expr *) predicate, false);
	clauses = make_ands_implicit((Expr *) predicate);
	fix_opfuncids((Node *) clauses);
	return clauses;
}

DbOptIndexShape *
dbopt_index_shape(const IndexStmt *statement, Oid relid, const char *source)
{
	IndexStmt  *analyzed =
	transformIndexStmt(relid, copyObject(unconstify(IndexStmt *, statement)),
					   source);
	DbOptIndexShape *shape = palloc0(sizeof(DbOptIndexShape));
	ListCell   *cell;
	int			place = 0;

	shape->am = get_index_am_oid(analyzed->accessMethod, false);
	shape->is_unique = analyzed->unique;
	shape->nulls_not_distinct = analyzed->nulls_not_distinct;
	shape->keys = list_length(analyzed->indexParams);
	shape->columns = shape->keys +
		list_length(analyzed->indexIncludingParams);
	shape->attnums = palloc0(shape->columns * sizeof(AttrNumber));
	shape->opclasses = palloc0(shape->keys * sizeof(Oid));
	shape->collations = palloc0(shape->keys * sizeof(Oid));
	shape->options = palloc0(shape->keys * sizeof(int16));
	shape->parameters = palloc0(shape->keys * sizeof(Datum));

	foreach(cell, analyzed->indexParams)
		shape_key(shape, place++, lfirst_node(IndexElem, cell), relid,
				  analyzed->accessMethod);
	foreach(cell, analyzed->indexIncludingParams)
	{
		IndexElem  *element = lfirst_node(IndexElem, cell);
		Oid			collation;

		if (element->expr != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("expressions are not supported in included columns")));
		(void) shape_column(shape, place++, element, relid, &collation);
	}
	shape->expressions = simplify_expressions(shape->expressions);
	shape->predicate = simplify_predicate(analyzed->whereClause);
	dbopt_index_check(analyzed, relid, shape);
	return shape;
}

/* ---- against an index ---------------------------------------------------- */

static const oidvector *
index_opclasses(Relation index)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
										Anum_pg_index_indclass, &isnull);

	Assert(!isnull);
	return (const oidvector *) DatumGetPointer(value);
}

/*
 * An expression or predicate as it is stored; NULL: there is none.  What the
 * relation cache has was simplified under the settings of whoever needed it
 * first.
 */
static Node *
stored(Relation index, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
										column, &isnull);

	return isnull ? NULL : stringToNode(TextDatumGetCString(value));
}

static bool
same_parameters(Datum one, Datum other)
{
	if (one == (Datum) 0 || other == (Datum) 0)
		return one == other;
	return datumIsEqual(PointerGetDatum(PG_DETOAST_DATUM(one)),
						PointerGetDatum(PG_DETOAST_DATUM(other)), false, -1);
}

static const char *
key_difference(const DbOptIndexShape *shape, Relation index)
{
	const oidvector *opclasses = index_opclasses(index);

	for (int i = 0; i < shape->keys; i++)
	{
		if (opclasses->values[i] != shape->opclasses[i])
			return "it has another operator class";
		if (!same_parameters(get_attoptions(RelationGetRelid(index), i + 1),
							 shape->parameters[i]))
			return "its operator class has other parameters";
		if (index->rd_indcollation[i] != shape->collations[i])
			return "it has another collation";
		if (index->rd_indoption[i] != shape->options[i])
			return "it has another order";
	}
	return NULL;
}

const char *
dbopt_index_difference(const DbOptIndexShape *shape, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != shape->am)
		return "it has another access method";
	if (form->indisunique && !shape->is_unique)
		return "it is unique";
	if (!form->indisunique && shape->is_unique)
		return "it is not unique";
	if (form->indnullsnotdistinct != shape->nulls_not_distinct)
		return "it treats nulls in another way";
	if (form->indnkeyatts != shape->keys || form->indnatts != shape->columns)
		return "it has other columns";
	for (int i = 0; i < shape->columns; i++)
		if (form->indkey.values[i] != shape->attnums[i])
			return i < shape->keys ? "it has other columns" :
				"it includes other columns";
	if (!equal(simplify_expressions((List *) stored(index, Anum_pg_index_indexprs)),
			   shape->expressions))
		return "it has other expressions";
	if (!equal(simplify_predicate(stored(index, Anum_pg_index_indpred)),
			   shape->predicate))
		return "it has another predicate";
	return key_difference(shape, index);
}
