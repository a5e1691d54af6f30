/*
 * pooled_run.c
 *		What a pool session does with a caller's SQL.
 *
 * Run by pool sessions, as the caller's role.  All statements are one
 * transaction; the rows of the last one are sent while it runs.  The caller
 * hears how it ended when the session has been reset and is idle, so that its
 * next call finds it; but a session that may have to wait until the caller has
 * heard is idle only then, and one that could not be reset, which is not the
 * caller's trouble, ends then.
 *
 * A single statement is run as a client's own would be, so that those which
 * refuse transaction blocks work, such as VACUUM.  CALL and DO are not: they
 * could end the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "engine/exec.h"
#include "engine/pooled.h"
#include "engine/session.h"
#include "engine/sql_statement.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

typedef struct PooledRun
{
	DbOptPooledSegment segment;
	DbOptPooledRequest request;
	MemoryContext context;		/* outlives the transactions */
	bool		alone;			/* there is only one statement */
} PooledRun;

/* One statement on its way through parser, planner and portal. */
typedef struct Statement
{
	const char *text;			/* that it stands in */
	RawStmt    *raw;
	ParamListInfo params;
	List	   *plans;
} Statement;

/* ---- parameters ---------------------------------------------------------- */

/* Reads the parameters as constants of the types that were found for them. */
static ParamListInfo
bind_params(const DbOptPooledRequest *request, const Oid *types)
{
	ParamListInfo params = makeParamList(request->nparams);

	for (int i = 0; i < request->nparams; i++)
	{
		ParamExternData *param = &params->params[i];
		Oid			input;
		Oid			ioparam;

		getTypeInputInfo(types[i], &input, &ioparam);
		param->ptype = types[i];
		param->pflags = PARAM_FLAG_CONST;
		param->isnull = request->params[i] == NULL;
		param->value = OidInputFunctionCall(input, request->params[i],
											ioparam, -1);
	}
	return params;
}

static void
check_param_count(const DbOptPooledRequest *request, int count)
{
	if (count == request->nparams)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 errmsg("wrong number of parameters"),
			 errdetail("In the statement: %d; given: %d.", count,
					   request->nparams)));
}

/* Parameters belong to one statement; nothing says to which of several. */
static void
check_params_allowed(const PooledRun *run)
{
	if (run->request.nparams > 0 && !run->alone)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("several statements cannot have parameters")));
}

/* ---- a statement --------------------------------------------------------- */

/*
 * In the statement's context.  A parameter gets its type from where it stands,
 * as a literal of no type would.
 */
static void
plan_statement(const DbOptPooledRequest *request, Statement *statement)
{
	bool		snapshot = request->nparams > 0 ||
	analyze_requires_snapshot(statement->raw);
	Oid		   *types = NULL;
	int			count = 0;
	List	   *queries;

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_varparams(statement->raw, statement->text,
											   &types, &count, NULL);
	check_param_count(request, count);
	if (count > 0)
		statement->params = bind_params(request, types);
	statement->plans = pg_plan_queries(queries, statement->text,
									   CURSOR_OPT_PARALLEL_OK,
									   statement->params);
	if (snapshot)
		PopActiveSnapshot();
}

/* May it end the transaction that it is run in? */
static bool
is_top_level(const PooledRun *run, const RawStmt *raw)
{
	return run->alone && !IsA(raw->stmt, CallStmt) && !IsA(raw->stmt, DoStmt);
}

static void
run_portal(const PooledRun *run, const Statement *statement,
		   DestReceiver *receiver)
{
	Portal		portal = CreatePortal("", true, true);
	QueryCompletion completion;

	portal->visible = false;
	PortalDefineQuery(portal, NULL, statement->text,
					  CreateCommandTag(statement->raw->stmt),
					  statement->plans, NULL);
	PortalStart(portal, statement->params, 0, InvalidSnapshot);
	(void) dbopt_portal_run(portal, is_top_level(run, statement->raw),
							receiver, &completion);
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);
}

/* Its memory outlives the transactions that it may end, and no more. */
static void
run_statement(const PooledRun *run, const char *text, RawStmt *raw, bool last)
{
	MemoryContext context = AllocSetContextCreate(run->context,
												  "dbopt statement",
												  ALLOCSET_DEFAULT_SIZES);
	DestReceiver *receiver = None_Receiver;
	Statement	statement = {0};

	MemoryContextSwitchTo(context);
	CHECK_FOR_INTERRUPTS();
	dbopt_session_plans_check();	/* the one before may have set any */
	statement.text = text;

	statement.raw = raw;
	plan_statement(&run->request, &statement);
	if (last)
		receiver = dbopt_pooled_rows_create();
	run_portal(run, &statement, receiver);
	MemoryContextSwitchTo(run->context);
	MemoryContextDelete(context);
	CommandCounterIncrement();
}

static void
run_text(const PooledRun *run, const char *text, List *statements, bool last)
{
	ErrorContextCallback callback;
	ListCell   *cell;

	debug_query_string = text;

	pgstat_report_activity(STATE_RUNNING, text);
	dbopt_sql_context_push(&callback, text);
	foreach(cell, statements)
	{
		run_statement(run, text, lfirst_node(RawStmt, cell),
					  last && lnext(statements, cell) == NULL);
	}
	dbopt_sql_context_pop(&callback);
}

/* ---- all of it ----------------------------------------------------------- */

/* All texts are read before anything is run. */
static List **
parse_texts(PooledRun *run)
{
	int			ntexts = run->request.nstatements;
	List	  **parsed = palloc(ntexts * sizeof(List *));

	for (int i = 0; i < ntexts; i++)
		parsed[i] = dbopt_sql_parse(run->request.statements[i]);
	run->alone = ntexts == 1 && list_length(parsed[0]) == 1;
	check_params_allowed(run);
	return parsed;
}

/* What nobody waits for must not be committed. */
static void
check_caller(const PooledRun *run)
{
	if (pg_atomic_read_u32(run->segment.gone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the caller has gone")));
}

static void
run_request(void *arg)
{
	PooledRun  *run = arg;
	int			ntexts = run->request.nstatements;
	List	  **parsed;

	check_caller(run);
	dbopt_pooled_segment_settings(&run->segment);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (run->request.isolation >= 0)
		XactIsoLevel = run->request.isolation;
	MemoryContextSwitchTo(run->context);
	parsed = parse_texts(run);
	if (!run->alone)
		BeginImplicitTransactionBlock();
	for (int i = 0; i < ntexts; i++)
		run_text(run, run->request.statements[i], parsed[i], i == ntexts - 1);
	check_caller(run);
	if (!run->alone)
		EndImplicitTransactionBlock();
	CommitTransactionCommand();
}

/* In the caller's encoding: a reset has returned to the role's own. */
static void
answer(ErrorData *error)
{
	SetClientEncoding(GetDatabaseEncoding());
	if (error != NULL)
		dbopt_exec_send_error(error);
	else
		(void) dbopt_pooled_wire_send(DBOPT_POOLED_DONE, "", 0);
}

static Size
length_of(const char *text)
{
	return text == NULL ? 0 : strlen(text);
}

/*
 * At most: what is not counted are numbers and places in the source.  Names may
 * be any texts that RAISE was given.
 */
static Size
answer_size(const ErrorData *error)
{
	if (error == NULL)
		return 0;

	return 4096 + length_of(error->message) + length_of(error->detail) +
		length_of(error->hint) + length_of(error->context) +
		length_of(error->internalquery) + length_of(error->schema_name) +
		length_of(error->table_name) + length_of(error->column_name) +
		length_of(error->datatype_name) + length_of(error->constraint_name);
}

void
dbopt_pooled_run(const DbOptJob *job)
{
	PooledRun	run = {.context = CurrentMemoryContext};
	DbOptJobResult result = {0};
	ErrorData  *error;
	ErrorData  *reset_error;
	bool		waits;

	if (!dbopt_pooled_segment_open(job->segment, &run.segment))
	{
		dbopt_session_report_idle(&result);
		return;
	}
	dbopt_pooled_segment_read(&run.segment, &run.request);
	SetClientEncoding(GetDatabaseEncoding());	/* the caller's */
	dbopt_pooled_wire_open(&run.segment);
	error = dbopt_exec_guard_all(run_request, &run);
	debug_query_string = NULL;
	reset_error = dbopt_session_reset();
	waits = reset_error != NULL ||
		!dbopt_pooled_wire_has_room(answer_size(error));
	if (!waits)
		dbopt_session_report_idle(&result);
	answer(error);
	dsm_detach(run.segment.segment);
	MemoryContextSwitchTo(run.context);
	if (reset_error != NULL)
		dbopt_session_give_up(reset_error);
	if (waits)
		dbopt_session_report_idle(&result);
}
