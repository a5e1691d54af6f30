/*
 * policy_guard.c
 *		Row triggers of dbopt_retry_policy and dbopt_retryable_error.
 *
 * Run by whoever writes these tables, which is the installer or a superuser,
 * and by a restore.  They check what is written; keep the shipped rows, which
 * can be edited but not deleted; let an edited shipped row from a dump take
 * the place of the one that CREATE EXTENSION has just made; and tell every
 * process that the policies have changed.  Install and upgrade scripts write
 * what they like, but for the check.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "policy/backoff.h"
#include "policy/classify.h"
#include "state/news.h"
#include "tcop/cmdtag.h"
#include "utils/builtins.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A table with shipped rows. */
typedef struct DbOptShippedTable
{
	DbOptTable	table;
	const char *row_kind;		/* for messages, as the next one */
	const char *identity_names;
	int			identity;		/* this many first columns identify a row */
	int			shipped;		/* column numbers */
	int			edited;
	void		(*check) (HeapTuple row, TupleDesc desc);
	void		(*check_unused) (HeapTuple row, TupleDesc desc);	/* or NULL */
	const char *instead;		/* of deleting a shipped row; a hint */
} DbOptShippedTable;

PG_FUNCTION_INFO_V1(dbopt_policy_guard);
PG_FUNCTION_INFO_V1(dbopt_rule_guard);
PG_FUNCTION_INFO_V1(dbopt_truncate_guard);

/* ---- reading a row ---- */

/* A text column; NULL for NULL. */
static char *
column_text(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static bool
column_bool(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	return !isnull && DatumGetBool(value);
}

static HeapTuple
set_bool(HeapTuple row, TupleDesc desc, int column, bool value)
{
	Datum		datum = BoolGetDatum(value);
	bool		isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &column, &datum, &isnull);
}

/* ---- what a policy may be ---- */

static void
refuse_policy(HeapTuple row, TupleDesc desc, int column, const char *must,
			  const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("%s of retry policy \"%s\" must be %s",
					NameStr(TupleDescAttr(desc, column - 1)->attname),
					column_text(row, desc, Anum_policy_name), must),
			 errhint("%s", hint)));
}

static void
check_count(HeapTuple row, TupleDesc desc, int column, const char *hint)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);

	if (!isnull && DatumGetInt32(value) < 1)
		refuse_policy(row, desc, column, "at least 1", hint);
}

/* "least" is in microseconds. */
static void
check_duration(HeapTuple row, TupleDesc desc, int column, int64 least,
			   const char *must, const char *hint)
{
	bool		isnull;
	Datum		value = heap_getattr(row, column, desc, &isnull);
	Interval   *span;

	if (isnull)
		return;
	span = DatumGetIntervalP(value);
	if (span->month != 0)
		refuse_policy(row, desc, column, "given without months and years",
					  "Their length varies; give days or less.");
	if ((double) span->day * USECS_PER_DAY + (double) span->time < least)
		refuse_policy(row, desc, column, must, hint);
}

static void
check_multiplier(HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(row, Anum_policy_multiplier, desc,
									 &isnull);

	if (!isnull && !(DatumGetFloat8(value) >= 1 &&
					 isfinite(DatumGetFloat8(value))))
		refuse_policy(row, desc, Anum_policy_multiplier,
					  "a finite number of at least 1",
					  "1 makes every delay the same, 2 doubles them.");
}

static void
check_jitter(HeapTuple row, TupleDesc desc)
{
	char	   *name = column_text(row, desc, Anum_policy_jitter);
	DbOptJitter jitter;

	if (name != NULL && !dbopt_jitter_parse(name, &jitter))
		refuse_policy(row, desc, Anum_policy_jitter,
					  "one of none, proportional, equal and full",
					  "With full jitter a delay is anything from nothing up to the computed one.");
}

static void
check_policy(HeapTuple row, TupleDesc desc)
{
	char	   *name = column_text(row, desc, Anum_policy_name);

	if (name == NULL)
		return;					/* refused as NULL */
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("the name of a retry policy must not be empty"),
				 errhint("Handlers name the policy they use.")));
	check_count(row, desc, Anum_policy_max_attempts,
				"It counts the first try: 1 means that nothing is retried.");
	check_duration(row, desc, Anum_policy_base_delay, 0, "0 or more",
				   "It is the delay before the second attempt.");
	check_duration(row, desc, Anum_policy_max_delay, 0, "0 or more",
				   "It limits every delay.");
	check_multiplier(row, desc);
	check_jitter(row, desc);
	check_count(row, desc, Anum_policy_failure_threshold,
				"It is how many retryable failures in a row open the circuit breaker.");
	check_duration(row, desc, Anum_policy_reset_timeout, 1, "more than 0",
				   "It is how long the circuit breaker stays open before a trial.");
	check_count(row, desc, Anum_policy_half_open_trials,
				"It is how many events a half-open circuit breaker lets through.");
}

/* A policy that goes, or changes its name. */
static void
check_policy_unused(HeapTuple row, TupleDesc desc)
{
	char	   *name = column_text(row, desc, Anum_policy_name);
	ListCell   *cell;

	foreach(cell, dbopt_config_get()->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (strcmp(handler->policy->name, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("retry policy \"%s\" is used by handler \"%s\"",
							name, handler->name),
					 errhint("Register the handler with another policy first.")));
	}
}

/* ---- what a rule may be ---- */

static void
refuse_rule(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg_internal("%s", message),
			 errhint("%s", hint)));
}

static void
check_rule(HeapTuple row, TupleDesc desc)
{
	char	   *policy = column_text(row, desc, Anum_error_policy);
	char	   *sqlstate = column_text(row, desc, Anum_error_sqlstate);
	char	   *pattern = column_text(row, desc, Anum_error_pattern);

	if (sqlstate == NULL && pattern == NULL)
		refuse_rule("a rule needs a sqlstate or a pattern",
					"What no rule speaks of is decided by the policy's retry_unknown.");
	if (sqlstate != NULL && !dbopt_sqlstate_valid(sqlstate) &&
		!dbopt_sqlclass_valid(sqlstate))
		refuse_rule(psprintf("\"%s\" is neither a SQLSTATE nor a class of them",
							 sqlstate),
					"A SQLSTATE has five characters, its class the first two of them, each a digit or an upper-case letter from A to Z.");
	if (pattern != NULL && pattern[0] == '\0')
		refuse_rule("the pattern of a rule must not be empty",
					"Set it to NULL for a rule that goes by the sqlstate alone.");
	if (policy != NULL && !creating_extension &&
		dbopt_config_policy(dbopt_config_get(), policy) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("retry policy \"%s\" does not exist", policy),
				 errhint("The table dbopt_retry_policy lists them; NULL means all of them.")));
}

/* ---- shipped rows ---- */

static const DbOptShippedTable policies = {
	DBOPT_RETRY_POLICY, "retry policy", "the name", 1,
	Anum_policy_shipped, Anum_policy_edited,
	check_policy, check_policy_unused,
	"Edit it, or write one with another name."
};

static const DbOptShippedTable rules = {
	DBOPT_RETRYABLE_ERROR, "rule", "policy, sqlstate or pattern", 3,
	Anum_error_shipped, Anum_error_edited,
	check_rule, NULL,
	"Set its column retryable, or add a rule that is more specific."
};

static bool
same_identity(const DbOptShippedTable *kind, TupleDesc desc, HeapTuple a,
			  HeapTuple b)
{
	for (int column = 1; column <= kind->identity; column++)
	{
		char	   *left = column_text(a, desc, column);
		char	   *right = column_text(b, desc, column);

		if ((left == NULL) != (right == NULL))
			return false;
		if (left != NULL && strcmp(left, right) != 0)
			return false;
	}
	return true;
}

/* Deletes the shipped row of the same identity.  false: there is none. */
static bool
delete_shipped(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	other;
	bool		found = false;

	while (!found && HeapTupleIsValid(other = systable_getnext(scan)))
	{
		found = column_bool(other, desc, kind->shipped) &&
			same_identity(kind, desc, other, row);
		if (found)
			simple_heap_delete(rel, &other->t_self);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

static bool
inside_copy(void)
{
	return ActivePortal != NULL && ActivePortal->commandTag == CMDTAG_COPY;
}

/*
 * A row that comes from a dump takes a shipped one's place, and counts as an
 * edit of it from then on.  What was shipped once and is no more, is kept as
 * a row of the user's own.
 */
static HeapTuple
insert_row(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		replaces = false;

	if (column_bool(row, desc, kind->shipped) || inside_copy())
		replaces = delete_shipped(kind, rel, row);
	row = set_bool(row, desc, kind->shipped, replaces);
	return set_bool(row, desc, kind->edited, replaces);
}

static void
refuse_loss(const DbOptShippedTable *kind, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot %s a %s that belongs to the extension", what,
					kind->row_kind),
			 errhint("%s", kind->instead)));
}

static HeapTuple
update_row(const DbOptShippedTable *kind, Relation rel, HeapTuple old,
		   HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		shipped = column_bool(old, desc, kind->shipped);

	if (!same_identity(kind, desc, old, row))
	{
		if (shipped)
			refuse_loss(kind, psprintf("change %s of", kind->identity_names));
		if (kind->check_unused != NULL)
			kind->check_unused(old, desc);
	}
	row = set_bool(row, desc, kind->shipped, shipped);
	return set_bool(row, desc, kind->edited, shipped);
}

static HeapTuple
delete_row(const DbOptShippedTable *kind, Relation rel, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (column_bool(row, desc, kind->shipped))
		refuse_loss(kind, "delete");
	if (kind->check_unused != NULL)
		kind->check_unused(row, desc);
	return row;
}

/* ---- the triggers ---- */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(((TriggerData *) fcinfo->context)->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called as a BEFORE trigger")));
	return (TriggerData *) fcinfo->context;
}

static Datum
guard(const DbOptShippedTable *kind, FunctionCallInfo fcinfo)
{
	TriggerData *data = trigger_data(fcinfo);
	Relation	rel = data->tg_relation;
	bool		updated = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	row = updated ? data->tg_newtuple : data->tg_trigtuple;

	if (RelationGetRelid(rel) != dbopt_table_oid(kind->table) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger does not belong on table \"%s\"",
						RelationGetRelationName(rel))));

	if (!TRIGGER_FIRED_BY_DELETE(data->tg_event))
		kind->check(row, RelationGetDescr(rel));
	if (!creating_extension)
	{
		if (updated)
			row = update_row(kind, rel, data->tg_trigtuple, row);
		else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
			row = delete_row(kind, rel, row);
		else
			row = insert_row(kind, rel, row);
	}

	dbopt_config_changed();
	dbopt_news_note_config();
	return PointerGetDatum(row);
}

Datum
dbopt_policy_guard(PG_FUNCTION_ARGS)
{
	return guard(&policies, fcinfo);
}

Datum
dbopt_rule_guard(PG_FUNCTION_ARGS)
{
	return guard(&rules, fcinfo);
}

/* TRUNCATE would take the shipped rows along. */
Datum
dbopt_truncate_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);

	ereport(ERROR,
			(errcode(ERRCODE_RESTRICT_VIOLATION),
			 errmsg("cannot truncate table \"%s\"",
					RelationGetRelationName(data->tg_relation)),
			 errhint("Delete rows of your own; those of the extension stay.")));
	return PointerGetDatum(NULL);
}
