/*
 * detach.c
 *		dbopt_detach_events(): a table is an ordinary table again.
 *
 * Run by the backend of the table's owner, under ACCESS EXCLUSIVE on the
 * table.  The column log_position stays, with its values: views may use it,
 * and it is the owner's to drop.
 */
#include "postgres.h"

#include "access/table.h"
#include "api/arguments.h"
#include "api/attach.h"
#include "api/ddl.h"
#include "api/events_table.h"
#include "api/forget.h"
#include "api/primary.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/log_index.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "state/news.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define LOG_INDEX_NAME "idx_events_log"

PG_FUNCTION_INFO_V1(dbopt_detach_events);

/* Refused while somebody counts on the events being delivered. */
static void
check_no_handlers(int32 source_id, const char *name)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(source_id));
	if (dbopt_owner_execute(dbopt_sql("SELECT name FROM @extschema@.dbopt_handler"
									  " WHERE source_id = $1"
									  " ORDER BY name LIMIT 1"), &args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("table \"%s\" still has handlers", name),
				 errdetail("Handler \"%s\" is registered on it.",
						   dbopt_owner_text(0, 1)),
				 errhint("Use dbopt_unregister_handler() first.")));
	dbopt_owner_end(&scope);
}

static void
drop_trigger(Oid relid, const char *qualified, const char *name)
{
	if (OidIsValid(get_trigger_oid(relid, name, true)))
		dbopt_ddl("DROP TRIGGER %s ON %s", name, qualified);
}

/* Drops the log index that attaching made; one of the user's own stays. */
static void
drop_log_index(Oid relid, const char *key_column)
{
	Relation	rel = table_open(relid, NoLock);
	Oid			index = dbopt_log_index_find(rel, key_column);
	char	   *schema = get_namespace_name(RelationGetNamespace(rel));
	char	   *name = OidIsValid(index) ? get_rel_name(index) : NULL;

	table_close(rel, NoLock);
	if (name != NULL && strncmp(name, LOG_INDEX_NAME,
								strlen(LOG_INDEX_NAME)) == 0)
		dbopt_ddl("DROP INDEX %s", quote_qualified_identifier(schema, name));
}

static void
detach_table(Oid relid)
{
	DbOptDdlScope ddl;
	DbOptOwnerScope owner;
	DbOptSource *source;
	int32		source_id;
	char	   *key_column;
	char	   *qualified;

	dbopt_ddl_begin(&ddl);
	dbopt_events_table_lock(relid);
	dbopt_require_identity();

	source = dbopt_config_source_of(dbopt_config_get(), relid);
	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not attached", get_rel_name(relid)),
				 errhint("The view dbopt_sources lists the tables that are attached.")));
	source_id = source->source_id;
	key_column = pstrdup(source->key_column);
	qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
										   get_rel_name(relid));
	check_no_handlers(source_id, get_rel_name(relid));

	drop_trigger(relid, qualified, "dbopt_stamp");
	drop_trigger(relid, qualified, "dbopt_truncated");
	drop_log_index(relid, key_column);
	dbopt_owner_begin(&owner);
	dbopt_source_forget(source_id);
	dbopt_owner_end(&owner);
	dbopt_ddl_end(&ddl);
}

/*
 * dbopt_detach_events(events regclass) RETURNS void
 */
Datum
dbopt_detach_events(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	dbopt_argument_require(fcinfo, 0, "events",
						   "The view dbopt_sources lists the tables that are attached.");
	detach_table(PG_GETARG_OID(0));
	dbopt_config_changed();
	dbopt_news_note_config();
	PG_RETURN_VOID();
}
