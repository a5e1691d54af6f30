/*
 * source_state.c
 *		Is an attached table fit for delivery?
 *
 * Run by the scheduler when the configuration has changed, and by backends
 * that attach a table.  A source is
 *
 *		ready		events are handed out;
 *		building	its log index is not there (yet), or not valid;
 *		broken		something else is missing that only a person can mend.
 *
 * Takes ACCESS SHARE on the tables, without waiting.  The names and the key
 * column are written anew after a rename, so that a dump has the present
 * ones: the OID is the identity here, the name is what a restore goes by.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger_d.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/handler_state.h"
#include "engine/log.h"
#include "engine/log_index.h"
#include "engine/owner_spi.h"
#include "engine/source_state.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "state/news.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A row of dbopt_source. */
typedef struct SourceRow
{
	int32		source_id;
	Oid			relid;
	char	   *schema;
	char	   *name;
	char	   *key_column;
	bool		mark_processed;
	char	   *state;
	char	   *reason;			/* NULL: none */
	char	   *build_failure;	/* of the log index, the last; NULL: none */
} SourceRow;

static List *
load_sources(int32 source_id)
{
	DbOptOwnerArgs args = {0};
	List	   *sources = NIL;
	uint64		rows;

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source_id));
	rows = dbopt_owner_execute(dbopt_sql("SELECT source_id, events_oid, events_schema, events_name,"
										 " key_column, mark_processed, state, reason, build_failure"
										 " FROM @extschema@.dbopt_source"
										 " WHERE source_id = $1 OR $1 = 0"
										 " ORDER BY source_id"), &args);
	for (uint64 row = 0; row < rows; row++)
	{
		SourceRow  *source = palloc0(sizeof(SourceRow));
		bool		isnull;

		source->source_id = DatumGetInt32(dbopt_owner_value(row, 1, &isnull));
		source->relid = DatumGetObjectId(dbopt_owner_value(row, 2, &isnull));
		source->schema = dbopt_owner_text(row, 3);
		source->name = dbopt_owner_text(row, 4);
		source->key_column = dbopt_owner_text(row, 5);
		source->mark_processed = DatumGetBool(dbopt_owner_value(row, 6,
																&isnull));
		source->state = dbopt_owner_text(row, 7);
		source->reason = dbopt_owner_text(row, 8);
		source->build_failure = dbopt_owner_text(row, 9);
		sources = lappend(sources, source);
	}
	return sources;
}

/* The stamp trigger of a table or partition; NULL when there is none. */
static Trigger *
stamp_trigger(Relation rel)
{
	Oid			stamp = dbopt_stamp_oid();

	if (rel->trigdesc != NULL)
	{
		for (int i = 0; i < rel->trigdesc->numtriggers; i++)
		{
			if (rel->trigdesc->triggers[i].tgfoid == stamp)
				return &rel->trigdesc->triggers[i];
		}
	}
	return NULL;
}

/* The trigger's columns are known by number: they follow a rename. */
static char *
present_key_column(Relation rel, const SourceRow *source)
{
	Trigger    *trigger = stamp_trigger(rel);
	char	   *name = NULL;

	if (trigger != NULL && trigger->tgnattr >= 3)
		name = get_attname(RelationGetRelid(rel), trigger->tgattr[2], true);
	return name != NULL ? name : source->key_column;
}

/* What is wrong with the trigger of one table or partition?  NULL: nothing. */
static char *
trigger_problem(Relation rel, const SourceRow *source)
{
	Trigger    *trigger = stamp_trigger(rel);

	if (trigger == NULL)
		return psprintf("the trigger dbopt_stamp of \"%s\" is missing: detach the table and attach it again",
						RelationGetRelationName(rel));
	if (trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
		return psprintf("the trigger dbopt_stamp is not enabled: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
						quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel)),
						quote_identifier(trigger->tgname));
	if (trigger->tgnargs != 1 ||
		strtol(trigger->tgargs[0], NULL, 10) != source->source_id)
		return psprintf("the trigger dbopt_stamp of \"%s\" belongs to another table: detach the table and attach it again",
						RelationGetRelationName(rel));
	return NULL;
}

/* What is wrong with the columns?  NULL: nothing. */
static char *
column_problem(Relation rel, const SourceRow *source)
{
	Oid			relid = RelationGetRelid(rel);
	DbOptLogColumns columns;

	if (!dbopt_log_columns(rel, source->key_column, &columns))
		return psprintf("the table lacks one of the columns event_type, log_position and %s",
						quote_identifier(source->key_column));
	if (source->mark_processed &&
		get_atttype(relid, get_attnum(relid, "processed")) != BOOLOID)
		return pstrdup("the table has lost its column processed boolean");
	return dbopt_log_columns_problem(rel, &columns);
}

/* What only a person can mend; NULL: nothing. */
static char *
broken_reason(Relation rel, const SourceRow *source)
{
	List	   *parts;
	ListCell   *cell;
	char	   *problem;

	if (OidIsValid(dbopt_tables_unfit_owner()))
		return psprintf("the tables of dbopt belong to \"%s\", who is no superuser: REASSIGN OWNED has to give them to one",
						GetUserNameFromId(dbopt_tables_unfit_owner(), false));
	if (rel->rd_rel->relforcerowsecurity)
		return psprintf("the table forces row level security on its owner, which hides events from dbopt: ALTER TABLE %s NO FORCE ROW LEVEL SECURITY",
						quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel)));
	problem = column_problem(rel, source);
	if (problem != NULL)
		return problem;

	parts = find_all_inheritors(RelationGetRelid(rel), AccessShareLock, NULL);
	foreach(cell, parts)
	{
		Relation	part = relation_open(lfirst_oid(cell), NoLock);

		if (part->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
			problem = psprintf("the partition \"%s\" is a foreign table: detach it",
							   RelationGetRelationName(part));
		else if (part->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
			problem = psprintf("the table \"%s\" is unlogged, and a crash would empty it: set it LOGGED",
							   RelationGetRelationName(part));
		else
			problem = trigger_problem(part, source);
		relation_close(part, NoLock);
		if (problem != NULL)
			return problem;
	}
	return NULL;
}

/* Why nothing can be handed out yet; NULL: it can. */
static char *
building_reason(Relation rel, const SourceRow *source)
{
	List	   *missing = dbopt_log_index_missing(rel, source->key_column);
	StringInfoData reason;
	int			told = 0;
	ListCell   *cell;
	char	   *completion;

	initStringInfo(&reason);
	completion = missing == NIL ?
		dbopt_log_index_completion(rel, source->key_column) : NULL;
	if (missing == NIL && completion == NULL)
		return NULL;
	if (source->build_failure != NULL)
		appendStringInfo(&reason,
						 "the log index could not be built and is tried again (%s): ",
						 source->build_failure);
	else
		appendStringInfoString(&reason, "the log index is to be built: ");
	foreach(cell, missing)
	{
		if (told++ > 0)
			appendStringInfoString(&reason, "; ");
		if (told > DBOPT_REASON_STATEMENTS)
		{
			appendStringInfo(&reason, "and on %d more partitions",
							 list_length(missing) - DBOPT_REASON_STATEMENTS);
			break;
		}
		appendStringInfoString(&reason,
							   dbopt_log_index_statement(lfirst_oid(cell),
														 source->key_column,
														 NULL));
	}
	if (completion != NULL)
		appendStringInfoString(&reason, completion);
	return reason.data;
}

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static bool
same_row(const SourceRow *a, const SourceRow *b)
{
	return same_text(a->state, b->state) && same_text(a->reason, b->reason) &&
		same_text(a->schema, b->schema) && same_text(a->name, b->name) &&
		same_text(a->key_column, b->key_column);
}

/* The message of a failed build is of interest until the index is there. */
#define STORE_SOURCE(patience) \
	"UPDATE @extschema@.dbopt_source" \
	" SET state = $2, reason = $3, events_schema = $4, events_name = $5," \
	" key_column = $6," \
	" build_failure = CASE WHEN $2 = 'building' THEN build_failure END" \
	" WHERE source_id = (SELECT source_id FROM @extschema@.dbopt_source" \
	" WHERE source_id = $1 FOR NO KEY UPDATE " patience ")"

/* Writes the row, unless somebody else is about to change it. */
static void
store_source(const SourceRow *source, DbOptLook *look)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source->source_id));
	dbopt_owner_bind_text(&args, source->state);
	dbopt_owner_bind_text(&args, source->reason);
	dbopt_owner_bind_text(&args, source->schema);
	dbopt_owner_bind_text(&args, source->name);
	dbopt_owner_bind_text(&args, source->key_column);
	if (dbopt_owner_execute(dbopt_sql(look->waits ?
									  STORE_SOURCE("") :
									  STORE_SOURCE("SKIP LOCKED")),
							&args) > 0)
		look->changed = true;
	else
		look->incomplete = true;
}

/* A table that is gone, and that nothing refers to, is forgotten. */
static bool
forget_source(const SourceRow *source)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source->source_id));
	return dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_source"
										 " WHERE source_id ="
										 " (SELECT source_id FROM @extschema@.dbopt_source s"
										 " WHERE source_id = $1 AND NOT EXISTS"
										 " (SELECT FROM @extschema@.dbopt_handler h"
										 " WHERE h.source_id = s.source_id)"
										 " FOR UPDATE SKIP LOCKED)"),
							   &args) > 0;
}

/* Judges a table that is there and locked. */
static void
judge_source(Relation rel, SourceRow *source)
{
	source->schema = get_namespace_name(RelationGetNamespace(rel));
	source->name = pstrdup(RelationGetRelationName(rel));
	source->key_column = present_key_column(rel, source);
	source->state = "broken";
	source->reason = broken_reason(rel, source);
	if (source->reason != NULL)
		return;
	source->reason = building_reason(rel, source);
	source->state = source->reason != NULL ? "building" : "ready";
}

static void
refresh_source(const SourceRow *old, DbOptLook *look)
{
	SourceRow	new = *old;
	Relation	rel;

	if (!dbopt_log_try_lock(old->relid, AccessShareLock))
	{
		look->incomplete = true;
		return;
	}
	rel = try_relation_open(old->relid, NoLock);
	if (rel != NULL)
	{
		judge_source(rel, &new);
		relation_close(rel, AccessShareLock);
	}
	else
	{
		UnlockRelationOid(old->relid, AccessShareLock);
		if (forget_source(old))
		{
			look->changed = true;
			return;
		}
		new.state = "broken";
		new.reason = "the table was dropped: unregister its handlers";
	}
	if (!same_row(old, &new))
		store_source(&new, look);
}

/*
 * False: not everything could be looked at.  While a database is restored,
 * rows may come that the configuration does not know of yet; nobody's OIDs in
 * them are ours before dbopt_resume(), and nothing is judged.
 */
static bool
refresh(int32 source_id, bool waits)
{
	DbOptOwnerScope scope;
	DbOptLook	look = {.waits = waits};
	ListCell   *cell;

	if (dbopt_positions_foreign())
		return true;
	PushActiveSnapshot(GetTransactionSnapshot());
	dbopt_owner_begin(&scope);
	foreach(cell, load_sources(source_id))
		refresh_source(lfirst(cell), &look);
	if (source_id == 0)
		dbopt_handlers_refresh(&look);
	dbopt_owner_end(&scope);
	PopActiveSnapshot();
	if (look.changed)
	{
		dbopt_config_changed();
		dbopt_news_note_config();
		dbopt_news_note_many();
	}
	return !look.incomplete;
}

void
dbopt_source_refresh_states(void)
{
	(void) refresh(0, true);
}

bool
dbopt_source_try_refresh_states(void)
{
	return refresh(0, false);
}

void
dbopt_source_refresh(int32 source_id)
{
	(void) refresh(source_id, true);
}
