/*
 * call.c
 *		Calling a handler: its function, looked up and checked once a
 *		transaction, and its argument.
 *
 * Run by pool sessions, as the handler's role.  The function is called
 * directly, not by SQL, so what the executor would check is checked here:
 * EXECUTE on the function, SELECT and, where events are marked, UPDATE on the
 * table, row level security, the kind of function.  No locks.
 *
 * A type that somebody has made may have a cast to json, which converting a
 * row to jsonb calls.  That is nothing the handler asked for, and must not run
 * as its role: such rows are converted as the table's owner, who chose the
 * type.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "engine/aggregate.h"
#include "engine/call.h"
#include "engine/exec_timer.h"
#include "engine/owner_spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/* The type that the handler's argument must have. */
static Oid
argument_type(const DbOptCall *call)
{
	switch (call->handler->argument_kind)
	{
		case DBOPT_ARGUMENT_ARRAY:
			return get_array_type(call->row_type);
		case DBOPT_ARGUMENT_JSONB:
			return JSONBOID;
		case DBOPT_ARGUMENT_ROW:
			break;
	}
	return call->row_type;
}

/* Why the function cannot be called, and the way back; NULL: it can. */
static const char *
function_problem(const DbOptCall *call, HeapTuple tuple)
{
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		return "its function does not exist any more: register the handler with replace => true";
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prokind != PROKIND_FUNCTION || form->proretset ||
		form->pronargs != 1 ||
		form->proargtypes.values[0] != argument_type(call))
		return "its function does not take an event of this table any more: register the handler with replace => true";
	if (superuser() && !superuser_arg(form->proowner))
		return "its role is a superuser and the owner of its function is not: register the handler with another run_as and replace => true";
	return NULL;
}

/* The rights that registering asks for, too; events hidden are events lost. */
static const char *
rights_problem(const DbOptHandler *handler, const DbOptLog *log)
{
	Oid			events = RelationGetRelid(log->root);

	if (dbopt_function_aclcheck(handler->function, GetUserId()) != ACLCHECK_OK)
		return "its role may not execute its function any more: GRANT EXECUTE on the function, then dbopt_resume_handler()";
	if (pg_class_aclcheck(events, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return "its role may not read the events table any more: GRANT SELECT on the table, then dbopt_resume_handler()";
	if (handler->source->mark_processed &&
		pg_class_aclcheck(events, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		return "its role may not update the events table any more: GRANT UPDATE on the table, then dbopt_resume_handler()";
	if (check_enable_rls(events, InvalidOid, true) == RLS_ENABLED)
		return "row level security of the events table applies to its role: disable it or give the role BYPASSRLS, then dbopt_resume_handler()";
	return NULL;
}

/* What an ordered handler goes by. */
static const char *
order_problem(const DbOptLog *log)
{
	DbOptAggregateColumns columns;
	const char *problem = dbopt_aggregate_columns_find(log->root, &columns);

	return problem == NULL ? NULL :
		psprintf("%s: mend the table, then dbopt_resume_handler()", problem);
}

/* Has the table a column whose conversion may run anybody's code? */
static bool
has_made_types(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->atttypid >= FirstNormalObjectId)
			return true;
	return false;
}

/*
 * to_jsonb() finds the type of its argument in the expression it is called
 * by, so it gets one.
 */
static void
prepare_to_jsonb(DbOptCall *call, const DbOptLog *log)
{
	Const	   *row = makeNullConst(call->row_type, -1, InvalidOid);

	fmgr_info(F_TO_JSONB, &call->to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(row), InvalidOid,
											 InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   &call->to_jsonb);
	call->converts_as = has_made_types(log->root) ?
		log->root->rd_rel->relowner : InvalidOid;
}

const char *
dbopt_call_prepare(DbOptCall *call, const DbOptHandler *handler,
				   const DbOptLog *log)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(handler->function));
	const char *problem;

	call->handler = handler;
	call->row_type = log->root->rd_rel->reltype;
	problem = function_problem(call, tuple);
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (problem == NULL)
		problem = rights_problem(handler, log);
	if (problem == NULL && handler->ordered)
		problem = order_problem(log);
	if (problem != NULL)
		return problem;
	call->scratch = AllocSetContextCreate(CurrentMemoryContext,
										  "dbopt handler call",
										  ALLOCSET_DEFAULT_SIZES);
	fmgr_info(handler->function, &call->function);
	if (handler->argument_kind == DBOPT_ARGUMENT_JSONB)
		prepare_to_jsonb(call, log);
	return NULL;
}

static Datum
row_to_jsonb(DbOptCall *call, Datum row)
{
	DbOptOwnerScope scope;
	Datum		converted;

	if (!OidIsValid(call->converts_as))
		return FunctionCall1(&call->to_jsonb, row);
	dbopt_owner_switch(&scope, call->converts_as,
					   SECURITY_LOCAL_USERID_CHANGE |
					   SECURITY_RESTRICTED_OPERATION);
	converted = FunctionCall1(&call->to_jsonb, row);
	dbopt_owner_switch_back(&scope);
	return converted;
}

static Datum
rows_array(const DbOptCall *call, Datum *rows, int count)
{
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(call->row_type, &length, &by_value, &align);
	return PointerGetDatum(construct_array(rows, count, call->row_type,
										   length, by_value, align));
}

/* The result is ignored, NULL as well. */
static void
call_one(DbOptCall *call, Datum argument)
{
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, &call->function, 1, InvalidOid, NULL,
							 NULL);
	fcinfo->args[0].value = argument;
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
}

MemoryContext
dbopt_call_begin(DbOptCall *call)
{
	CHECK_FOR_INTERRUPTS();
	dbopt_exec_timer_restart();
	MemoryContextReset(call->scratch);
	return call->scratch;
}

void
dbopt_call_row(DbOptCall *call, Datum row)
{
	call_one(call,
			 call->handler->argument_kind == DBOPT_ARGUMENT_JSONB ?
			 row_to_jsonb(call, row) : row);
}

void
dbopt_call_rows(DbOptCall *call, Datum *rows, int count)
{
	MemoryContext previous = MemoryContextSwitchTo(dbopt_call_begin(call));

	if (call->handler->argument_kind == DBOPT_ARGUMENT_ARRAY)
		call_one(call, rows_array(call, rows, count));
	else
		for (int i = 0; i < count; i++)
		{
			if (i > 0)
				(void) dbopt_call_begin(call);
			dbopt_call_row(call, rows[i]);
		}
	MemoryContextSwitchTo(previous);
}
