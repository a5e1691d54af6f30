/*
 * index_inline.c
 *		Indexes of small tables, built at once.
 *
 * Run by the install script and by dbopt_ensure_indexes(), in the caller's
 * transaction.  Takes SHARE on the table, without waiting for it: whoever
 * waited there would make writers wait behind him.  What has been done about
 * the index is locked before: no session begins to build it meanwhile, and
 * what one is building is left to it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "engine/exec.h"
#include "engine/index_build.h"
#include "engine/index_inline.h"
#include "engine/index_own.h"
#include "engine/index_state.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/guc.h"
#include "state/log_line.h"
#include "state/news.h"
#include "state/shmem.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/*
 * Locks the table with its partitions, if nobody writes to them.
 */
static bool
lock_parts(Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), ShareLock))
			return false;
		if (get_rel_relkind(lfirst_oid(cell)) == '\0')
			return false;		/* has just been dropped */
	}
	return true;
}

/* Pages of the table and its partitions, which are locked. */
static uint64
count_pages(Oid relid)
{
	uint64		pages = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(cell), NoLock);

		if (RELKIND_HAS_STORAGE(part->rd_rel->relkind))
			pages += RelationGetNumberOfBlocks(part);
		table_close(part, NoLock);
	}
	return pages;
}

/* What is tried in a subtransaction, which releases the locks if it fails. */
typedef struct Attempt
{
	const DbOptIndexTarget *target;
	bool		begun;			/* it was fit to be built here */
	Oid			index;
} Attempt;

static void
attempt_build(void *arg)
{
	Attempt    *attempt = arg;
	const DbOptIndexTarget *target = attempt->target;

	if (!lock_parts(target->relid))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("table \"%s\" is in use",
						get_rel_name(target->relid))));
	if (count_pages(target->relid) > (uint64) dbopt_index_inline_pages)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("table \"%s\" is not small",
						get_rel_name(target->relid))));
	attempt->begun = true;
	attempt->index = dbopt_index_create(target, target->row->name);
}

static void
note_failed(DbOptIndexState *state, const DbOptIndexTarget *target,
			const DbOptFailure *failure)
{
	state->declaration = dbopt_index_row_hash(target->row);
	state->table = target->relid;
	state->progress = DBOPT_INDEX_FAILED;
	dbopt_index_state_note_error(state, failure);
}

static void
log_built(const DbOptIndexTarget *target, TimestampTz since)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_INDEX,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.attempt = 1,
		.duration = GetCurrentTimestamp() - since,
		.subject = "index",
		.subject_value = target->row->name
	};

	line.message = psprintf("index \"%s\" was built", target->row->name);
	dbopt_log_line(&line);
}

/*
 * Does a session have it in its hands?  It may be at work on another table, for
 * what was declared before; that ends, and what is declared now comes next.
 */
static bool
is_being_built(const DbOptIndexState *state)
{
	return dbopt_shared != NULL && state->progress == DBOPT_INDEX_BUILDING;
}

bool
dbopt_index_provide(const DbOptIndexTarget *target)
{
	Attempt		attempt = {.target = target};
	DbOptFailure failure = {0};
	DbOptIndexState *state = dbopt_index_state_lock(target->row->name);
	TimestampTz since = GetCurrentTimestamp();
	bool		built = false;

	if (target->condition == DBOPT_INDEX_MISSING && !target->locked &&
		!is_being_built(state))
		built = dbopt_exec_try(attempt_build, &attempt, 0, &failure);
	if (failure.message != NULL)
		dbopt_index_pass_cancel(&failure);
	if (built)
	{
		dbopt_index_state_settle(state);
		dbopt_index_own_note(state, attempt.index);
		log_built(target, since);
	}
	else if (is_being_built(state))
		state->attempts = 0;	/* if that fails, it is tried again */
	else if (dbopt_shared != NULL)
		dbopt_index_state_queue(state, GetCurrentTimestamp());
	else if (attempt.begun)
		note_failed(state, target, &failure);
	else
		return false;
	dbopt_index_state_write(state);
	dbopt_news_note_config();
	return true;
}
