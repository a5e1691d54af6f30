/*
 * registration.c
 *		The arguments of dbopt_register_handler(), and the row made of them.
 *
 * Run by backends that register a handler.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/arguments.h"
#include "api/forget.h"
#include "api/registration.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/handler_state.h"
#include "engine/owner_spi.h"
#include "engine/position.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* The arguments by number. */
enum
{
	ARG_NAME,
	ARG_EVENT_TYPE,
	ARG_HANDLER,
	ARG_EVENTS,
	ARG_POLICY,
	ARG_MAX_CONCURRENCY,
	ARG_CHUNK_SIZE,
	ARG_TIMEOUT,
	ARG_PRIORITY,
	ARG_START_FROM,
	ARG_ORDERED,
	ARG_RUN_AS,
	ARG_REPLACE
};

#define DEFAULT_POLICY "event"

static char *
text_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static bool
bool_arg(FunctionCallInfo fcinfo, int number)
{
	return !PG_ARGISNULL(number) && PG_GETARG_BOOL(number);
}

/* A limit: NULL gives 0, which the caller cannot ask for. */
static int32
positive_arg(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		return 0;
	if (PG_GETARG_INT32(number) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be greater than zero", name)));
	return PG_GETARG_INT32(number);
}

void
dbopt_registration_read(FunctionCallInfo fcinfo, DbOptRegistration *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	dbopt_argument_require(fcinfo, ARG_NAME, "name",
						   "Give the handler a name.");
	dbopt_argument_require(fcinfo, ARG_EVENT_TYPE, "event_type",
						   "Use '*' for every type of event.");
	dbopt_argument_require(fcinfo, ARG_HANDLER, "handler",
						   "Name the function with the type of its argument, such as 'on_user(events)'.");
	wanted->name = text_arg(fcinfo, ARG_NAME);
	wanted->event_type = text_arg(fcinfo, ARG_EVENT_TYPE);
	wanted->function = PG_GETARG_OID(ARG_HANDLER);
	if (!PG_ARGISNULL(ARG_EVENTS))
		wanted->events = PG_GETARG_OID(ARG_EVENTS);
	wanted->policy = text_arg(fcinfo, ARG_POLICY);
	if (wanted->policy == NULL)
		wanted->policy = DEFAULT_POLICY;
	wanted->max_concurrency = positive_arg(fcinfo, ARG_MAX_CONCURRENCY,
										   "max_concurrency");
	wanted->chunk_size = positive_arg(fcinfo, ARG_CHUNK_SIZE, "chunk_size");
	if (!PG_ARGISNULL(ARG_TIMEOUT))
		wanted->timeout = PG_GETARG_INTERVAL_P(ARG_TIMEOUT);
	if (!PG_ARGISNULL(ARG_PRIORITY))
		wanted->priority = PG_GETARG_INT32(ARG_PRIORITY);
	wanted->start_from = text_arg(fcinfo, ARG_START_FROM);
	wanted->ordered = bool_arg(fcinfo, ARG_ORDERED);
	wanted->role = PG_ARGISNULL(ARG_RUN_AS) ? GetUserId() :
		PG_GETARG_OID(ARG_RUN_AS);
	wanted->replace = bool_arg(fcinfo, ARG_REPLACE);
}

static bool
is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n\v\f")] == '\0';
}

static void
check_name(const char *name)
{
	if (is_blank(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a handler must not be empty"),
				 errhint("Give the handler a name.")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of handler \"%s\" is too long", name),
				 errhint("A name has at most %d bytes.", NAMEDATALEN - 1)));
	if (strcmp(name, "database") == 0 || strcmp(name, "overall") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("the name \"%s\" is reserved", name),
				 errhint("Choose another name for the handler.")));
}

static void
check_event_type(const char *event_type)
{
	const char *star = strchr(event_type, '*');

	if (is_blank(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_type must not be empty"),
				 errhint("Use '*' for every type of event.")));
	if (star != NULL && star[1] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event_type \"%s\" has a \"*\" that is not at its end",
						event_type),
				 errhint("An event type is exact, or ends in one \"*\".")));
}

/* A timer counts milliseconds in an int. */
static void
check_timeout(const Interval *timeout)
{
	double		ms;

	if (timeout == NULL)
		return;
	ms = (timeout->month * (double) DAYS_PER_MONTH + timeout->day) *
		SECS_PER_DAY * 1000.0 + timeout->time / 1000.0;
	if (ms < 1.0 || ms > (double) PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be between 1 ms and %d ms",
						PG_INT32_MAX)));
}

void
dbopt_registration_check(const DbOptRegistration *wanted)
{
	check_name(wanted->name);
	check_event_type(wanted->event_type);
	check_timeout(wanted->timeout);
	if (wanted->start_from != NULL &&
		strcmp(wanted->start_from, "now") != 0 &&
		strcmp(wanted->start_from, "beginning") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized start_from \"%s\"", wanted->start_from),
				 errhint("Use 'now' or 'beginning'; dbopt_replay() delivers from a time on.")));
}

/* $1 to $15: what an insert and a replacement write. */
static void
bind_common(DbOptOwnerArgs *args, const DbOptRegistration *wanted)
{
	char	   *schema = get_namespace_name(get_func_namespace(wanted->function));

	dbopt_owner_bind_text(args, wanted->name);
	dbopt_owner_bind_text(args, wanted->event_type);
	dbopt_owner_bind(args, INT4OID, Int32GetDatum(wanted->source_id));
	dbopt_owner_bind(args, OIDOID, ObjectIdGetDatum(wanted->function));
	dbopt_owner_bind_text(args, schema);
	dbopt_owner_bind_text(args, dbopt_function_signature(wanted->function));
	dbopt_owner_bind_text(args, wanted->argument_kind);
	dbopt_owner_bind(args, OIDOID, ObjectIdGetDatum(wanted->role));
	dbopt_owner_bind_text(args, GetUserNameFromId(wanted->role, false));
	dbopt_owner_bind_text(args, wanted->policy);
	if (wanted->max_concurrency > 0)
		dbopt_owner_bind(args, INT4OID, Int32GetDatum(wanted->max_concurrency));
	else
		dbopt_owner_bind_null(args, INT4OID);
	if (wanted->chunk_size > 0)
		dbopt_owner_bind(args, INT4OID, Int32GetDatum(wanted->chunk_size));
	else
		dbopt_owner_bind_null(args, INT4OID);
	if (wanted->timeout != NULL)
		dbopt_owner_bind(args, INTERVALOID, IntervalPGetDatum(wanted->timeout));
	else
		dbopt_owner_bind_null(args, INTERVALOID);
	dbopt_owner_bind(args, INT4OID, Int32GetDatum(wanted->priority));
	dbopt_owner_bind(args, BOOLOID, BoolGetDatum(wanted->ordered));
}

/*
 * Behind all that has committed by now, but for what is still running; so that
 * ours counts as running, it must have its id before the snapshot is taken.
 */
static void
start_now(int64 *position, Datum *holes)
{
	Snapshot	snapshot;
	DbOptHorizon horizon;

	(void) GetTopTransactionId();
	snapshot = dbopt_snapshot_new();
	dbopt_horizon_read(snapshot, dbopt_position_offset(), &horizon);
	*position = horizon.limit - 1;
	*holes = dbopt_positions_to_array(horizon.running, horizon.nrunning);
	UnregisterSnapshot(snapshot);
}

void
dbopt_registration_insert(const DbOptRegistration *wanted)
{
	bool		now = wanted->start_from != NULL ?
	strcmp(wanted->start_from, "now") == 0 : !wanted->mark_processed;
	int64		position = -1;
	Datum		holes = dbopt_positions_to_array(NULL, 0);
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	if (now)
		start_now(&position, &holes);
	bind_common(&args, wanted);
	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(position));
	dbopt_owner_bind(&args, INT8ARRAYOID, holes);
	dbopt_owner_begin(&scope);
	dbopt_owner_execute(dbopt_sql("INSERT INTO @extschema@.dbopt_handler"
								  " (name, event_type, source_id, function_oid, function_schema,"
								  " function_name, argument_kind, role_oid, role_name, policy,"
								  " max_concurrency, chunk_size, timeout, priority, ordered,"
								  " start_position, start_holes)"
								  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
								  " $13, $14, $15, $16, $17)"), &args);
	dbopt_owner_end(&scope);
}

/* The handler does not go by order any more: nothing of it is held back. */
static void
release_order(const char *name)
{
	DbOptOwnerArgs args = {0};

	dbopt_require_read_committed();
	dbopt_owner_bind_text(&args, name);
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_retry_queue"
								  " SET next_retry_at = pg_catalog.now()"
								  " WHERE next_retry_at = 'infinity' AND handler_id ="
								  " (SELECT handler_id FROM @extschema@.dbopt_handler WHERE name = $1)"),
						&args);
	dbopt_owner_execute(dbopt_sql("DELETE FROM @extschema@.dbopt_ordered WHERE handler_id ="
								  " (SELECT handler_id FROM @extschema@.dbopt_handler WHERE name = $1)"),
						&args);
}

/* Keeps the id, and with it cursors, queue and statistics; and the start. */
void
dbopt_registration_replace(const DbOptRegistration *wanted)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	bind_common(&args, wanted);
	dbopt_owner_begin(&scope);
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_handler"
								  " SET event_type = $2, source_id = $3, function_oid = $4,"
								  " function_schema = $5, function_name = $6, argument_kind = $7,"
								  " role_oid = $8, role_name = $9, policy = $10,"
								  " max_concurrency = $11, chunk_size = $12, timeout = $13,"
								  " priority = $14, ordered = $15,"
								  " state = 'ready', reason = NULL"
								  " WHERE name = $1"), &args);
	if (wanted->was_ordered && !wanted->ordered)
		release_order(wanted->name);
	dbopt_owner_end(&scope);
}
