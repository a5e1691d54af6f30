/*
 * hooks.c
 *		What dbopt_test does where it is preloaded: it makes every query of who has
 *		set dbopt_test.refuse fail, and with dbopt_test.refuse_last_lines what a
 *		process says of circuit breakers as it ends.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "storage/ipc.h"
#include "utils/guc.h"

extern PGDLLEXPORT void _PG_init(void);

/* ---- queries that fail --------------------------------------------------- */

static planner_hook_type previous_planner = NULL;
static bool refuse = false;

static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	if (refuse)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('A', 'B', '1', '2', '3')),
				 errmsg("no query is planned")));
	return previous_planner != NULL ?
		previous_planner(query, text, options, params) :
		standard_planner(query, text, options, params);
}

/* ---- lines of the log that fail ------------------------------------------ */

static emit_log_hook_type previous_log_hook = NULL;
static bool refuse_last_lines = false;

static void
emit_log(ErrorData *error)
{
	if (refuse_last_lines && proc_exit_inprogress && error->message != NULL &&
		strstr(error->message, "circuit breaker") != NULL)
		ereport(ERROR, (errmsg("no line is written")));
	if (previous_log_hook != NULL)
		previous_log_hook(error);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomBoolVariable("dbopt_test.refuse", "Makes queries fail.", NULL,
							 &refuse, false, PGC_USERSET, 0, NULL, NULL,
							 NULL);
	DefineCustomBoolVariable("dbopt_test.refuse_last_lines",
							 "Makes lines about breakers fail.", NULL,
							 &refuse_last_lines, false, PGC_USERSET, 0, NULL,
							 NULL, NULL);
	previous_planner = planner_hook;
	planner_hook = plan;
	previous_log_hook = emit_log_hook;
	emit_log_hook = emit_log;
}
