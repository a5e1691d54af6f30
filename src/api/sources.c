/*
 * sources.c
 *		dbopt_create_events(): a new events table, attached.
 *
 * Run by the backend of the table's future owner, with its rights.
 */
#include "postgres.h"

#include "api/arguments.h"
#include "api/attach.h"
#include "api/ddl.h"
#include "api/primary.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "engine/catalog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

PG_FUNCTION_INFO_V1(dbopt_create_events);

#ifdef DBOPT_BUILTIN_UUID_V7
#define UUID_SCHEMA		"pg_catalog"
#define UUID_FUNCTION	"uuidv7"
#else
#define UUID_SCHEMA		get_namespace_name(dbopt_schema_oid())
#define UUID_FUNCTION	"dbopt_uuid_v7"
#endif

/* Two %s: the table, and the function that makes keys, each qualified. */
static const char event_columns[] =
"CREATE TABLE %s ("
" id uuid PRIMARY KEY DEFAULT %s(),"
" event_type text NOT NULL CHECK (btrim(event_type) <> ''),"
" aggregate_type text NOT NULL,"
" aggregate_id uuid NOT NULL,"
" aggregate_version bigint NOT NULL DEFAULT 1,"
" data jsonb NOT NULL,"
" metadata jsonb DEFAULT '{}',"
" tags jsonb DEFAULT '[]',"
" user_id uuid,"
" organization_id uuid,"
" session_id text,"
" correlation_id text,"
" causation_id text,"
" source text,"
" version text DEFAULT '1.0',"
" ip_address inet,"
" user_agent text,"
" event_timestamp timestamptz NOT NULL DEFAULT now(),"
" created_at timestamptz NOT NULL DEFAULT now(),"
" log_position bigint NOT NULL DEFAULT 0%s)";

static const char mark_columns[] =
", processed boolean NOT NULL DEFAULT false,"
" processed_at timestamptz,"
" retry_count integer NOT NULL DEFAULT 0,"
" error_message text";

/*
 * Where the table is to be; the schema is chosen as CREATE TABLE would, before
 * the search path is pinned.
 */
static RangeVar *
parse_name(const char *name, Oid *schema)
{
	RangeVar   *relation = makeRangeVarFromNameList(dbopt_qualified_name_list(name));

	*schema = RangeVarGetAndCheckCreationNamespace(relation, NoLock, NULL);
	if (isTempNamespace(*schema))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("an events table cannot be temporary"),
				 errhint("The sessions that deliver events would not see its rows.")));
	return relation;
}

static void
check_absent(const RangeVar *relation, Oid schema)
{
	if (OidIsValid(get_relname_relid(relation->relname, schema)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", relation->relname),
				 errhint("Use dbopt_attach_events() to attach an existing table.")));
}

/*
 * The versions of an aggregate in order, which ordered handlers need.  Where
 * the name is taken, the server makes one.
 */
static void
create_aggregate_index(const RangeVar *relation, Oid schema)
{
	const char *name = "idx_events_aggregate_timeline";

	dbopt_ddl("CREATE INDEX %s ON %s"
			  " (aggregate_type, aggregate_id, aggregate_version, event_timestamp DESC)",
			  OidIsValid(get_relname_relid(name, schema)) ? "" : name,
			  quote_qualified_identifier(get_namespace_name(schema),
										 relation->relname));
}

static Oid
create_events(const char *name, bool mark_processed)
{
	DbOptDdlScope scope;
	Oid			schema;
	RangeVar   *relation = parse_name(name, &schema);
	Oid			relid;

	check_absent(relation, schema);
	dbopt_require_identity();
	dbopt_ddl_begin(&scope);
	dbopt_ddl(event_columns,
			  quote_qualified_identifier(get_namespace_name(schema),
										 relation->relname),
			  quote_qualified_identifier(UUID_SCHEMA, UUID_FUNCTION),
			  mark_processed ? mark_columns : "");
	create_aggregate_index(relation, schema);
	relid = get_relname_relid(relation->relname, schema);
	dbopt_ddl_end(&scope);

	dbopt_attach_table(relid, NULL);
	return relid;
}

/*
 * dbopt_create_events(name text, mark_processed boolean) RETURNS regclass
 */
Datum
dbopt_create_events(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	dbopt_argument_require(fcinfo, 0, "name",
						   "Give the name of the table to be created.");
	dbopt_argument_require(fcinfo, 1, "mark_processed",
						   "Give true for a table with a column processed, false for a plain log.");
	PG_RETURN_OID(create_events(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								PG_GETARG_BOOL(1)));
}
