/*
 * install.c
 *		What CREATE EXTENSION tells its caller.
 *
 * Run once, by the install script, which drops the function afterwards.  While
 * a script runs its caller sees no notices: they come when it commits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "engine/catalog.h"
#include "engine/log_index.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(dbopt_installed);

/* What the notice at commit will say; NULL: there is none. */
static char *pending_call = NULL;
static char *pending_table;

/* Does the schema have a table "events" that may be meant for dbopt? */
static bool
has_events(Oid schema)
{
	Oid			relid = get_relname_relid("events", schema);
	char		relkind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	AttrNumber	column;

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		return false;
	column = get_attnum(relid, "event_type");
	return column > 0 && dbopt_type_is_text(get_atttype(relid, column));
}

static void
notice_on_commit(XactEvent event, void *arg)
{
	char	   *call = pending_call;

	if (call == NULL)
		return;
	pending_call = NULL;
	if (event == XACT_EVENT_PRE_COMMIT && OidIsValid(dbopt_schema_oid()))
		ereport(NOTICE,
				(errmsg("there is a table that may hold events: %s",
						pending_table),
				 errhint("To have its events delivered, run SELECT %s.",
						 call)));
}

/* Texts that live as long as the transaction. */
static void
remember(const char *extension_schema, const char *events_schema)
{
	static bool registered = false;
	MemoryContext previous = MemoryContextSwitchTo(TopTransactionContext);

	if (!registered)
		RegisterXactCallback(notice_on_commit, NULL);
	registered = true;
	pending_table = quote_qualified_identifier(events_schema, "events");
	pending_call = psprintf("%s.dbopt_attach_events(%s)",
							quote_identifier(extension_schema),
							quote_literal_cstr(pending_table));
	MemoryContextSwitchTo(previous);
}

/*
 * dbopt_installed(schema text) RETURNS void
 *
 * Warns when the library is not preloaded, and gives the call that attaches a
 * table "events" of the extension's schema or of public.
 */
Datum
dbopt_installed(PG_FUNCTION_ARGS)
{
	char	   *schemas[] = {text_to_cstring(PG_GETARG_TEXT_PP(0)), "public"};

	if (IsBinaryUpgrade)
		PG_RETURN_VOID();
	if (dbopt_shared == NULL)
		ereport(WARNING,
				(errmsg("dbopt is not preloaded: no events are delivered"),
				 errhint("Add dbopt to the setting shared_preload_libraries and restart the server.")));
	for (int i = 0; i < lengthof(schemas); i++)
	{
		Oid			schema = get_namespace_oid(schemas[i], true);

		if (!OidIsValid(schema) || !has_events(schema))
			continue;
		remember(schemas[0], schemas[i]);
		break;
	}
	PG_RETURN_VOID();
}
