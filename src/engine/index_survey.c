/*
 * index_survey.c
 *		Queues declared indexes that are missing, for dbopt.auto_index.
 *
 * Run by a pool session of a superuser, when tables have come or changed: to
 * hold a declaration against its table may run functions of the table's owner,
 * as him, which is nothing for the scheduler.  What was given up stays so, and
 * an index of another shape may be what somebody wants.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/exec.h"
#include "engine/index_state.h"
#include "engine/index_survey.h"
#include "engine/index_target.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

static bool
is_lacking(const DbOptIndexTarget *target)
{
	return !target->locked && (target->condition == DBOPT_INDEX_MISSING ||
							   target->condition == DBOPT_INDEX_INVALID);
}

static void
survey_one(const DbOptIndexRow *row)
{
	DbOptIndexTarget target;
	DbOptIndexState *state;

	dbopt_index_examine(row, &target);
	if (!is_lacking(&target))
		return;
	state = dbopt_index_state_lock(row->name);
	if (state->progress == DBOPT_INDEX_QUEUED ||
		state->progress == DBOPT_INDEX_BUILDING ||
		dbopt_index_state_failed(state, row))
		return;
	dbopt_index_state_queue(state, GetCurrentTimestamp());
	dbopt_index_state_write(state);
}

void
dbopt_index_survey(MemoryContext context)
{
	List	   *rows;
	ListCell   *cell;

	dbopt_exec_begin();
	MemoryContextSwitchTo(context);
	rows = dbopt_index_rows();
	CommitTransactionCommand();
	foreach(cell, rows)
	{
		CHECK_FOR_INTERRUPTS();
		dbopt_exec_begin();
		survey_one(lfirst(cell));
		CommitTransactionCommand();
	}
	MemoryContextSwitchTo(context);
}
