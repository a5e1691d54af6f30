/*
 * identity.c
 *		Which database the data belongs to.
 *
 * Run by backends: at the first attach, and by dbopt_resume() in a restored or
 * copied database.  Adopting locks the row of dbopt_database first, so that it
 * happens once, then takes SHARE ROW EXCLUSIVE on all attached tables and their
 * partitions, which keeps their writers out until the offset is committed.
 *
 * What was written here before that has the positions of the new era already
 * (config.h), behind all cursors.  The offset is higher than that only if the
 * data was restored twice before it was resumed.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/handler_state.h"
#include "engine/identity.h"
#include "engine/log_top.h"
#include "engine/owner_spi.h"
#include "engine/position.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static void
bind_identity(DbOptOwnerArgs *args)
{
	dbopt_owner_bind(args, INT8OID,
					 Int64GetDatum((int64) GetSystemIdentifier()));
	dbopt_owner_bind(args, OIDOID, ObjectIdGetDatum(MyDatabaseId));
}

/* That of version 1.0 has no column for the table's own OID. */
static bool
has_table_oid(void)
{
	return get_attnum(dbopt_table_oid(DBOPT_DATABASE), "table_oid") !=
		InvalidAttrNumber;
}

static void
store_table_oid(void)
{
	if (has_table_oid())
		dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_database"
									  " SET table_oid = tableoid"), NULL);
}

void
dbopt_identity_store(void)
{
	DbOptOwnerArgs args = {0};

	bind_identity(&args);
	if (dbopt_owner_execute(dbopt_sql("INSERT INTO @extschema@.dbopt_database"
									  " (system_identifier, database_oid)"
									  " VALUES ($1, $2)"
									  " ON CONFLICT DO NOTHING"), &args) == 0)
		return;
	store_table_oid();
	dbopt_config_changed();		/* what follows reads it, and may fail */
}

/* Rows with the columns (id, schema, name, name); freed with SPI. */
typedef struct Reference
{
	int32		id;
	char	   *schema;
	char	   *name;
	char	   *role;			/* of a handler */
} Reference;

static List *
load_references(const char *query)
{
	uint64		rows = dbopt_owner_execute(dbopt_sql(query), NULL);
	List	   *references = NIL;

	for (uint64 row = 0; row < rows; row++)
	{
		Reference  *reference = palloc(sizeof(Reference));
		bool		isnull;

		reference->id = DatumGetInt32(dbopt_owner_value(row, 1, &isnull));
		reference->schema = dbopt_owner_text(row, 2);
		reference->name = dbopt_owner_text(row, 3);
		reference->role = dbopt_owner_text(row, 4);
		references = lappend(references, reference);
	}
	return references;
}

/*
 * No two sources may have the same OID, even on the way: the stored ones make
 * room first.  Two have the same name where a table was dropped and another one
 * attached: that is the later one's, unless it is the one that was found to be
 * missing.
 */
static void
adopt_sources(void)
{
	ListCell   *cell;

	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_source"
								  " SET events_oid = (4294967295 - source_id)::oid"),
						NULL);
	foreach(cell, load_references("SELECT source_id, events_schema, events_name, NULL"
								  " FROM @extschema@.dbopt_source"
								  " ORDER BY state = 'broken', source_id DESC"))
	{
		Reference  *source = lfirst(cell);
		Oid			schema = get_namespace_oid(source->schema, true);
		Oid			relid = OidIsValid(schema) ?
		get_relname_relid(source->name, schema) : InvalidOid;
		DbOptOwnerArgs args = {0};

		if (!OidIsValid(relid))
			continue;			/* found to be missing when it is judged */
		dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source->id));
		dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(relid));
		dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_source"
									  " SET events_oid = $2"
									  " WHERE source_id = $1 AND NOT EXISTS"
									  " (SELECT FROM @extschema@.dbopt_source"
									  " WHERE events_oid = $2)"), &args);
	}
}

/* The function of this schema, or NULL, and "name(argument)"; InvalidOid: none. */
static Oid
find_function(const char *schema, const char *name)
{
	DbOptOwnerArgs args = {0};
	uint64		rows;
	bool		isnull;

	dbopt_owner_bind_text(&args, schema);
	rows = dbopt_owner_execute("SELECT p.oid FROM pg_catalog.pg_proc p"
							   " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
							   " WHERE n.nspname = $1 AND p.pronargs = 1",
							   &args);
	for (uint64 row = 0; row < rows; row++)
	{
		Oid			function = DatumGetObjectId(dbopt_owner_value(row, 1,
																  &isnull));

		if (strcmp(dbopt_function_signature(function), name) == 0)
			return function;
	}
	return InvalidOid;
}

/*
 * What is not found stays InvalidOid, and is told when it is looked at.  What was
 * missing where the data comes from is not looked for: another one of its name
 * inherits nothing.
 */
static void
adopt_handlers(void)
{
	ListCell   *cell;

	foreach(cell, load_references("SELECT handler_id,"
								  " CASE WHEN function_oid <> 0 THEN function_schema END,"
								  " function_name,"
								  " CASE WHEN role_oid <> 0 THEN role_name END"
								  " FROM @extschema@.dbopt_handler"
								  " ORDER BY handler_id"))
	{
		Reference  *handler = lfirst(cell);
		Oid			function = find_function(handler->schema, handler->name);
		Oid			role = handler->role == NULL ? InvalidOid :
		get_role_oid(handler->role, true);
		DbOptOwnerArgs args = {0};

		dbopt_owner_bind(&args, INT4OID, Int32GetDatum(handler->id));
		dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(function));
		dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(role));
		dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_handler"
									  " SET function_oid = $2, role_oid = $3,"
									  " state = 'ready', reason = NULL"
									  " WHERE handler_id = $1"), &args);
	}
}

/*
 * Keeps the writers of all attached tables out, those that write to a
 * partition as well; returns the tables.
 */
static List *
lock_sources(void)
{
	uint64		rows = dbopt_owner_execute(dbopt_sql("SELECT c.oid"
													 " FROM @extschema@.dbopt_source s"
													 " JOIN pg_catalog.pg_class c ON c.oid = s.events_oid"
													 " WHERE c.relkind IN ('r', 'p')"
													 " ORDER BY c.oid"), NULL);
	List	   *tables = NIL;
	ListCell   *cell;
	bool		isnull;

	for (uint64 row = 0; row < rows; row++)
		tables = lappend_oid(tables,
							 DatumGetObjectId(dbopt_owner_value(row, 1, &isnull)));
	foreach(cell, tables)
	{
		LockRelationOid(lfirst_oid(cell), ShareRowExclusiveLock);
		(void) find_all_inheritors(lfirst_oid(cell), ShareRowExclusiveLock,
								   NULL);
	}
	return tables;
}

static void
enable_stamp(Oid relid, const char *trigger)
{
	Relation	rel = relation_open(relid, NoLock);
	char	   *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel));
	DbOptOwnerScope scope;

	dbopt_owner_begin_as(&scope, rel->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	relation_close(rel, NoLock);
	dbopt_owner_execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
								 table, quote_identifier(trigger)), NULL);
	dbopt_owner_end(&scope);
}

/*
 * A restore of data alone may switch all triggers off and on again, after
 * which ours do not fire for replicated rows any more.  Done as the owners.
 */
static void
enable_stamps(void)
{
	DbOptOwnerArgs args = {0};
	uint64		rows;
	List	   *triggers = NIL;
	ListCell   *cell;
	bool		isnull;

	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(dbopt_stamp_oid()));
	rows = dbopt_owner_execute(dbopt_sql("SELECT t.tgrelid, t.tgname"
										 " FROM pg_catalog.pg_trigger t"
										 " WHERE t.tgfoid = $1 AND t.tgenabled = 'O'"
										 " AND EXISTS (SELECT FROM @extschema@.dbopt_source s"
										 " WHERE s.events_oid = coalesce(pg_catalog.pg_partition_root(t.tgrelid), t.tgrelid))"),
							   &args);
	for (uint64 row = 0; row < rows; row++)
	{
		Reference  *trigger = palloc0(sizeof(Reference));

		trigger->id = DatumGetInt32(dbopt_owner_value(row, 1, &isnull));
		trigger->name = dbopt_owner_text(row, 2);
		triggers = lappend(triggers, trigger);
	}
	foreach(cell, triggers)
	{
		Reference  *trigger = lfirst(cell);

		enable_stamp((Oid) trigger->id, trigger->name);
	}
}

/* A query of one bigint; NULL counts as -1. */
static int64
query_position(const char *query)
{
	bool		isnull;
	Datum		value;

	dbopt_owner_execute(query, NULL);
	value = dbopt_owner_value(0, 1, &isnull);
	return isnull ? -1 : DatumGetInt64(value);
}

/*
 * The highest position of an event of a table without its log index, where all
 * rows are read; -1: there is none.  Asked as the table's owner, whose
 * functions run when a query on it is planned.
 */
static int64
highest_of_table(Oid relid)
{
	Relation	rel = try_relation_open(relid, NoLock);
	DbOptOwnerScope scope;
	AttrNumber	column;
	int64		position = -1;

	if (rel == NULL)
		return -1;
	column = get_attnum(relid, "log_position");
	if (column > 0 && get_atttype(relid, column) == INT8OID)
	{
		dbopt_owner_begin_as(&scope, rel->rd_rel->relowner,
							 SECURITY_LOCAL_USERID_CHANGE |
							 SECURITY_RESTRICTED_OPERATION);
		position = query_position(psprintf("SELECT max(log_position) FROM %s",
										   quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
																	  RelationGetRelationName(rel))));
		dbopt_owner_end(&scope);
	}
	relation_close(rel, NoLock);
	return position;
}

/* The highest position of an event of the table; -1: there is none. */
static int64
highest_event(Oid relid)
{
	char	   *problem;
	DbOptLog   *log;
	int64		highest;

	if (get_attnum(relid, "log_position") <= 0)
		return -1;
	log = dbopt_log_try_open(relid, &problem);
	if (log == NULL)
		return highest_of_table(relid);
	highest = dbopt_log_highest(log);
	dbopt_log_close(log);
	return highest;
}

/*
 * What has been written here, and where the data comes from, is below this.  In
 * every copy the offset is higher by an era, which leaves room for the next
 * ones.
 */
static int64
credible_end(void)
{
	return dbopt_config_get()->position_offset + DBOPT_POSITION_ERA;
}

static void
warn_incredible(Oid relid, int64 end)
{
	ereport(WARNING,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("table \"%s\" has events whose log_position is out of range",
					get_rel_name(relid)),
			 errdetail("Those from " INT64_FORMAT " on are not delivered.",
					   end),
			 errhint("UPDATE ... SET log_position = 0 WHERE log_position >= " INT64_FORMAT " gives them positions of their own.",
					 end)));
}

/*
 * The highest position that an event has or that dbopt has written down.  A
 * table with positions that nothing can have counted up to has been written to
 * by hand, and does not drive those of the others out of range.
 */
static int64
highest_position(List *tables)
{
	int64		highest =
	query_position(dbopt_sql("SELECT greatest("
							 "(SELECT max(greatest(start_position, (SELECT max(h) FROM unnest(start_holes) h)))"
							 " FROM @extschema@.dbopt_handler),"
							 "(SELECT max(greatest(last_position, hole_position, (SELECT max(h) FROM unnest(holes) h)))"
							 " FROM @extschema@.dbopt_cursor_version),"
							 "(SELECT max(greatest(from_position, to_position)) FROM @extschema@.dbopt_chunk),"
							 "(SELECT max(log_position) FROM @extschema@.dbopt_retry_queue),"
							 "(SELECT max(log_position) FROM @extschema@.dbopt_dead_letter))"));
	int64		end = credible_end();
	ListCell   *cell;

	foreach(cell, tables)
	{
		int64		position = highest_event(lfirst_oid(cell));

		if (position < end)
			highest = Max(highest, position);
		else
			warn_incredible(lfirst_oid(cell), end);
	}
	return highest;
}

/* The oldest transaction that may still write, as a full id. */
static int64
oldest_writer(void)
{
	Snapshot	snapshot = dbopt_snapshot_new();
	DbOptHorizon horizon;

	dbopt_horizon_read(snapshot, 0, &horizon);
	UnregisterSnapshot(snapshot);
	return horizon.nrunning > 0 ? horizon.running[0] : horizon.limit;
}

/*
 * The positions that new events get must be higher than all there are, but for
 * those that were written with the present offset.
 */
static int64
adopted_offset(int64 highest)
{
	int64		offset = dbopt_config_get()->position_offset;
	int64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return highest < offset + next ? offset :
		highest + 1 - oldest_writer();
}

static void
store_adopted(int64 offset)
{
	DbOptOwnerArgs args = {0};

	bind_identity(&args);
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(offset));
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_database"
								  " SET system_identifier = $1, database_oid = $2,"
								  " position_offset = $3"),
						&args);
	store_table_oid();
}

void
dbopt_identity_adopt(void)
{
	DbOptOwnerScope scope;
	List	   *tables;

	dbopt_owner_begin(&scope);
	dbopt_identity_store();
	dbopt_owner_execute(dbopt_sql("SELECT FROM @extschema@.dbopt_database"
								  " FOR UPDATE"), NULL);
	adopt_sources();
	adopt_handlers();
	tables = lock_sources();
	enable_stamps();
	store_adopted(adopted_offset(highest_position(tables)));
	dbopt_owner_end(&scope);
	dbopt_config_changed();
}
