/*
 * register.c
 *		dbopt_register_handler(): who gets which events.
 *
 * Run by backends.  Takes ACCESS SHARE on the events table, then the lock on
 * the table of handlers, so that two registrations never both find a name or a
 * pattern free.  Everything is checked for the caller before the row is
 * written as the extension's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "api/attach.h"
#include "api/handlers.h"
#include "api/primary.h"
#include "api/registration.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_type_d.h"
#include "compat.h"
#include "engine/aggregate.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/news.h"
#include "state/shmem.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(dbopt_register_handler);

/* The one attached table, where the caller named none. */
static Oid
only_source(void)
{
	const DbOptConfig *config = dbopt_config_get();
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, config->sources)
	{
		DbOptSource *source = lfirst(cell);

		if (get_rel_name(source->relid) == NULL)
			continue;
		if (OidIsValid(found))
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
					 errmsg("more than one events table is attached"),
					 errhint("Name the table with events => '...'.")));
		found = source->relid;
	}
	if (!OidIsValid(found))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no events table is attached"),
				 errhint("Use dbopt_create_events() or dbopt_attach_events() first.")));
	return found;
}

/* Finds the source and keeps it from being detached. */
static void
find_source(DbOptRegistration *wanted)
{
	DbOptSource *source;

	if (!OidIsValid(wanted->events))
		wanted->events = only_source();
	LockRelationOid(wanted->events, AccessShareLock);
	if (get_rel_name(wanted->events) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist",
						wanted->events)));
	source = dbopt_config_source_of(dbopt_config_get(), wanted->events);
	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not attached",
						get_rel_name(wanted->events)),
				 errhint("Use dbopt_attach_events() first.")));
	wanted->source_id = source->source_id;
	wanted->mark_processed = source->mark_processed;
}

static void
check_aggregate_column(Oid events, DbOptAggregateColumn column)
{
	const char *name = dbopt_aggregate_column_name(column);
	AttrNumber	number = get_attnum(events, name);
	Oid			type;

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"%s\"",
						get_rel_name(events), name),
				 errhint("An ordered handler needs the columns aggregate_type, aggregate_id and aggregate_version.")));
	type = getBaseType(get_atttype(events, number));
	if (column == DBOPT_AGGREGATE_VERSION &&
		!dbopt_aggregate_version_fits(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is of type %s",
						name, get_rel_name(events), format_type_be(type)),
				 errhint("An ordered handler goes by a number: smallint, integer, bigint or numeric.")));
	if (!OidIsValid(get_array_type(type)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is of type %s",
						name, get_rel_name(events), format_type_be(type)),
				 errhint("An ordered handler needs a type that has arrays.")));
}

/* What an ordered handler needs, and what makes it fast. */
static void
check_ordered(const DbOptRegistration *wanted)
{
	Relation	rel;
	char	   *statement;

	if (!wanted->ordered)
		return;
	for (int i = 0; i < DBOPT_AGGREGATE_COLUMNS; i++)
		check_aggregate_column(wanted->events, i);
	rel = table_open(wanted->events, NoLock);
	statement = dbopt_aggregate_index_missing(rel);
	table_close(rel, NoLock);
	if (statement != NULL)
		ereport(WARNING,
				(errmsg("table \"%s\" has no index that finds the versions of an aggregate",
						get_rel_name(wanted->events)),
				 errdetail("Ordered handlers look for the version before each event."),
				 errhint("Run %s.", statement)));
}

static void
check_policy(const char *policy)
{
	if (dbopt_config_policy(dbopt_config_get(), policy) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("retry policy \"%s\" does not exist", policy),
				 errhint("The table dbopt_retry_policy has the policies; own ones can be added.")));
}

/* On a mark_processed source an event goes to one handler. */
static void
check_pattern_free(const DbOptRegistration *wanted)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	if (!wanted->mark_processed)
		return;
	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, INT4OID, Int32GetDatum(wanted->source_id));
	dbopt_owner_bind_text(&args, wanted->event_type);
	dbopt_owner_bind_text(&args, wanted->name);
	if (dbopt_owner_execute(dbopt_sql("SELECT name FROM @extschema@.dbopt_handler"
									  " WHERE source_id = $1"
									  " AND event_type = $2 AND name <> $3"),
							&args) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" already has a handler",
						wanted->event_type),
				 errdetail("Handler \"%s\" is registered for it, and each event of table \"%s\" goes to one handler.",
						   dbopt_owner_text(0, 1),
						   get_rel_name(wanted->events)),
				 errhint("Unregister that handler, or register this one under its name with replace => true.")));
	dbopt_owner_end(&scope);
}

/*
 * Who owns the events table may remove another's handler, but not inherit
 * what its errors say.
 */
static void
check_role_kept(const DbOptRegistration *wanted, const DbOptHandlerRow *row)
{
	char	   *role = GetUserNameFromId(row->role, true);

	if (role == NULL || dbopt_can_set_role(GetUserId(), row->role))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to replace handler \"%s\"",
					wanted->name),
			 errdetail("It runs as role \"%s\", whose members may replace it.",
					   role),
			 errhint("Use dbopt_unregister_handler() first.")));
}

/*
 * Is the name taken?  Then the caller must want to replace its handler.  What a
 * session runs goes by order, or does not, to the end of its transaction.
 */
static bool
check_name(DbOptRegistration *wanted)
{
	DbOptHandlerRow row;

	if (!dbopt_handler_row_find(wanted->name, &row))
		return false;
	if (!wanted->replace)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("handler \"%s\" already exists", wanted->name),
				 errhint("Use replace => true to change it.")));
	dbopt_handler_check_manager(wanted->name, &row);
	check_role_kept(wanted, &row);
	if (row.source_id != wanted->source_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("handler \"%s\" is registered on another table",
						wanted->name),
				 errhint("Use dbopt_unregister_handler() first.")));
	wanted->was_ordered = row.ordered;
	if (row.ordered != wanted->ordered)
		dbopt_handler_stop(wanted->name, row.handler_id,
						   "change its own order");
	return true;
}

static void
register_handler(DbOptRegistration *wanted)
{
	DbOptHandlerTarget target;

	dbopt_registration_check(wanted);
	dbopt_require_identity();
	find_source(wanted);

	target.function = wanted->function;
	target.role = wanted->role;
	target.events = wanted->events;
	target.mark_processed = wanted->mark_processed;
	wanted->argument_kind = dbopt_handler_check_function(wanted->function,
														 wanted->events);
	dbopt_handler_check_rights(&target);
	check_ordered(wanted);
	check_policy(wanted->policy);

	dbopt_handlers_lock();
	if (check_name(wanted))
	{
		check_pattern_free(wanted);
		dbopt_registration_replace(wanted);
	}
	else
	{
		check_pattern_free(wanted);
		dbopt_registration_insert(wanted);
	}
}

/*
 * dbopt_register_handler(name text, event_type text, handler regprocedure,
 * ...) RETURNS void
 */
Datum
dbopt_register_handler(PG_FUNCTION_ARGS)
{
	DbOptRegistration wanted;

	dbopt_require_preload();
	dbopt_require_primary(fcinfo);
	dbopt_registration_read(fcinfo, &wanted);
	register_handler(&wanted);
	dbopt_config_changed();
	dbopt_news_note_config();
	dbopt_news_note_many();
	PG_RETURN_VOID();
}
