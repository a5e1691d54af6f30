/*
 * attach.c
 *		dbopt_attach_events(): makes a table a source of events.
 *
 * Run by the backend of the table's owner.  Takes ACCESS EXCLUSIVE on the
 * table and its partitions first, for no longer than lock_timeout, so that
 * the rest needs no further lock that somebody else could hold.  The source's
 * row is written as the extension's owner, everything else as the caller.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "api/arguments.h"
#include "api/attach.h"
#include "api/ddl.h"
#include "api/events_table.h"
#include "api/primary.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/identity.h"
#include "engine/log_index.h"
#include "engine/owner_spi.h"
#include "engine/source_state.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "state/guc.h"
#include "state/news.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(dbopt_attach_events);

void
dbopt_require_identity(void)
{
	if (dbopt_config_get()->foreign_identity)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database was restored or copied, and dbopt has not been resumed in it"),
				 errhint("Run SELECT dbopt_resume() first.")));
}

static void
check_not_attached(Relation rel)
{
	if (dbopt_config_source_of(dbopt_config_get(), RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" is already attached",
						RelationGetRelationName(rel)),
				 errhint("The view dbopt_sources has its state; dbopt_detach_events() undoes it.")));
}

/* A trigger of that name which is not ours stays the user's. */
static void
check_trigger_name(Relation rel, const char *name)
{
	Oid			trigger = get_trigger_oid(RelationGetRelid(rel), name, true);

	if (!OidIsValid(trigger) || rel->trigdesc == NULL)
		return;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *found = &rel->trigdesc->triggers[i];

		if (found->tgoid == trigger &&
			get_func_namespace(found->tgfoid) != dbopt_schema_oid())
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("table \"%s\" has another trigger \"%s\"",
							RelationGetRelationName(rel), name),
					 errhint("Rename the trigger.")));
	}
}

/* Returns the source_id of the new source. */
static int32
store_source(const DbOptEventsTable *events)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	bool		isnull;
	int32		source_id;

	dbopt_owner_begin(&scope);
	dbopt_identity_store();		/* the first attach tells which this is */
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(events->relid));
	dbopt_owner_bind_text(&args, events->schema);
	dbopt_owner_bind_text(&args, events->name);
	dbopt_owner_bind_text(&args, events->key_column);
	dbopt_owner_bind(&args, BOOLOID, BoolGetDatum(events->mark_processed));
	dbopt_owner_execute(dbopt_sql("INSERT INTO @extschema@.dbopt_source"
								  " (events_oid, events_schema, events_name, key_column, mark_processed, state)"
								  " VALUES ($1, $2, $3, $4, $5, 'building')"
								  " RETURNING source_id"), &args);
	source_id = DatumGetInt32(dbopt_owner_value(0, 1, &isnull));
	dbopt_owner_end(&scope);
	return source_id;
}

/*
 * Positions from an earlier attachment stay, unless they lie in this
 * cluster's future, where no transaction would ever reach them in order.
 */
static void
check_stored_positions(const DbOptEventsTable *events)
{
	int64		next = U64FromFullTransactionId(ReadNextFullTransactionId()) +
	dbopt_position_offset();

	dbopt_ddl("SELECT FROM %s WHERE log_position IS NULL"
			  " OR log_position < 0 OR log_position >= " INT64_FORMAT
			  " LIMIT 1", events->qualified, next);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the column log_position of table \"%s\" holds values that are not of this database",
						events->name),
				 errhint("Drop the column, or rename it: dbopt adds its own.")));
}

static void
add_position_column(const DbOptEventsTable *events)
{
	if (!events->has_position)
	{
		dbopt_ddl("ALTER TABLE %s ADD COLUMN log_position bigint NOT NULL DEFAULT 0",
				  events->qualified);
		return;
	}
	check_stored_positions(events);
	dbopt_ddl("ALTER TABLE %s ALTER COLUMN log_position SET DEFAULT 0,"
			  " ALTER COLUMN log_position SET NOT NULL", events->qualified);
}

/* Replaces a trigger that is left from an earlier attachment. */
static void
create_trigger(const DbOptEventsTable *events, const char *name,
			   const char *definition)
{
	if (OidIsValid(get_trigger_oid(events->relid, name, true)))
		dbopt_ddl("DROP TRIGGER %s ON %s", name, events->qualified);
	dbopt_ddl("CREATE TRIGGER %s %s", name, definition);
	dbopt_ddl("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", events->qualified,
			  name);
}

static void
create_triggers(const DbOptEventsTable *events, int32 source_id)
{
	const char *schema = quote_identifier(get_namespace_name(dbopt_schema_oid()));

	create_trigger(events, "dbopt_stamp",
				   psprintf("BEFORE INSERT%s OR UPDATE OF event_type, log_position, %s%s"
							" ON %s FOR EACH ROW EXECUTE FUNCTION %s.dbopt_stamp('%d')",
							events->partitioned ? " OR DELETE" : "",
							quote_identifier(events->key_column),
							events->mark_processed ? ", processed" : "",
							events->qualified, schema, source_id));
	create_trigger(events, "dbopt_truncated",
				   psprintf("AFTER TRUNCATE ON %s FOR EACH STATEMENT"
							" EXECUTE FUNCTION %s.dbopt_truncated()",
							events->qualified, schema));
}

/* Pages of the table, with its partitions. */
static uint64
count_pages(Oid relid)
{
	uint64		pages = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, AccessShareLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(cell), NoLock);

		if (RELKIND_HAS_STORAGE(part->rd_rel->relkind))
			pages += RelationGetNumberOfBlocks(part);
		table_close(part, NoLock);
	}
	return pages;
}

/* Two rows under one identity could not be told apart. */
static void
check_identities(const DbOptEventsTable *events, const char *columns)
{
	dbopt_ddl("SELECT FROM %s GROUP BY %s HAVING pg_catalog.count(*) > 1"
			  " LIMIT 1", events->qualified, columns);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("table \"%s\" has several rows with the same \"%s\"",
						events->name, events->key_column),
				 errhint("The key column must identify an event.")));
}

/*
 * Builds the log index where that is quickly done.  Where it is not, a
 * partitioned table gets a definition that partitions made later follow, and
 * the source stays in state 'building': a pool session builds the index.
 */
static void
create_log_index(const DbOptEventsTable *events)
{
	Relation	rel = table_open(events->relid, NoLock);
	char	   *columns = dbopt_log_index_columns(rel, events->key_column);
	char	   *name = dbopt_log_index_choose_name(RelationGetNamespace(rel));
	bool		missing = dbopt_log_index_missing(rel,
												  events->key_column) != NIL;
	bool		small = count_pages(events->relid) <= dbopt_index_inline_pages;
	bool		found = OidIsValid(dbopt_log_index_find(rel,
														events->key_column));

	table_close(rel, NoLock);
	if (events->composite_key && small)
		check_identities(events, psprintf("log_position, %s",
										  quote_identifier(events->key_column)));
	if (small && (missing || !found))
		dbopt_ddl("CREATE INDEX %s ON %s %s", name, events->qualified,
				  columns);
	else if (events->partitioned && !found)
		dbopt_ddl("CREATE INDEX %s ON ONLY %s %s", name, events->qualified,
				  columns);
}

/* Tells the caller what is left to be done. */
static void
report_state(const DbOptEventsTable *events, int32 source_id)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	char	   *reason;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source_id));
	dbopt_owner_execute(dbopt_sql("SELECT reason FROM @extschema@.dbopt_source"
								  " WHERE source_id = $1"), &args);
	reason = dbopt_owner_text(0, 1);
	if (reason != NULL)
		ereport(NOTICE,
				(errmsg("events of table \"%s\" are not delivered yet",
						events->name),
				 errdetail("%s.", reason)));
	dbopt_owner_end(&scope);
}

void
dbopt_attach_table(Oid relid, const char *key_column)
{
	DbOptDdlScope scope;
	DbOptEventsTable events;
	Relation	rel;
	int32		source_id;

	dbopt_require_identity();
	dbopt_ddl_begin(&scope);
	dbopt_events_table_lock(relid);
	rel = table_open(relid, NoLock);
	check_not_attached(rel);
	dbopt_events_table_check(rel, key_column, &events);
	check_trigger_name(rel, "dbopt_stamp");
	check_trigger_name(rel, "dbopt_truncated");
	table_close(rel, NoLock);

	source_id = store_source(&events);
	add_position_column(&events);
	create_triggers(&events, source_id);
	create_log_index(&events);
	dbopt_source_refresh(source_id);
	report_state(&events, source_id);
	dbopt_ddl_end(&scope);

	dbopt_config_changed();
	dbopt_news_note_config();
}

/*
 * dbopt_attach_events(events regclass, key_column name) RETURNS void
 */
Datum
dbopt_attach_events(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	dbopt_argument_require(fcinfo, 0, "events",
						   "Name the events table.");
	dbopt_attach_table(PG_GETARG_OID(0),
					   PG_ARGISNULL(1) ? NULL :
					   NameStr(*PG_GETARG_NAME(1)));
	PG_RETURN_VOID();
}
