/*
 * health_stored.c
 *		Is this database's delivery well?  The checks of what is stored, and of
 *		the transactions that are open.
 *
 * Run by whoever looks (health.c), as the extension's owner where tables are
 * read.  A look costs a handful of short queries, however many retries and dead
 * letters there are.  To plan these would take most of it, so that their plans
 * are kept.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/health.h"
#include "engine/owner_spi.h"
#include "engine/progress.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/guc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define CRITICAL_LETTERS		100 /* times dbopt.health_dead_letters */

/* A time that is stored, and ahead of the clock by this much, seconds. */
#define DEGRADED_AHEAD			5
#define CRITICAL_AHEAD			3600

/* ---- handlers and sources ------------------------------------------------ */

/* Those that dbopt.max_handlers leaves no slot for. */
static DbOptNames
find_slotless(const DbOptHealthLook *look)
{
	DbOptNames	slotless = {0};
	DbOptHandlerState state;

	if (look->standby || dbopt_handler_slot_is_free())
		return slotless;
	for (int i = 0; i < look->nhandlers; i++)
		if (!OidIsValid(look->states[i].dboid))
			dbopt_names_add(&slotless, look->handlers[i]->name);
	if (!dbopt_handler_copy(MyDatabaseId, 0, &state))
		dbopt_names_add(&slotless, "database");
	return slotless;
}

/* What there is to say of handlers and tables; NULL: nothing. */
static char *
describe_handlers(const DbOptNames *broken, const DbOptNames *tables,
				  const DbOptNames *slotless)
{
	char	   *unready = NULL;
	char	   *without = NULL;

	if (broken->count > 0 || tables->count > 0)
		unready = psprintf("not ready: handlers %s; tables %s; dbopt_handlers and dbopt_sources tell why",
						   dbopt_names_text(broken), dbopt_names_text(tables));
	if (slotless->count > 0)
		without = psprintf("without a circuit breaker and statistics, since all %d slots are in use: %s; consider increasing dbopt.max_handlers",
						   dbopt_shared->max_handlers,
						   dbopt_names_text(slotless));
	if (unready != NULL && without != NULL)
		return psprintf("%s; %s", unready, without);
	return unready != NULL ? unready : without;
}

static void
check_handlers(DbOptHealthLook *look)
{
	DbOptNames	broken = {0};
	DbOptNames	tables = {0};
	DbOptNames	slotless = find_slotless(look);
	DbOptHealth status = DBOPT_HEALTHY;
	char	   *detail;
	ListCell   *cell;

	if (look->config->foreign_identity)
	{
		dbopt_health_add(look, "handlers", DBOPT_HEALTHY,
						 "not looked at before dbopt_resume()");
		return;
	}
	for (int i = 0; i < look->nhandlers; i++)
		if (!look->handlers[i]->usable && look->handlers[i]->source->usable)
			dbopt_names_add(&broken, look->handlers[i]->name);
	foreach(cell, look->config->sources)
	{
		DbOptSource *source = lfirst(cell);
		char	   *name = get_rel_name(source->relid);

		if (!source->usable)
			dbopt_names_add(&tables, name == NULL ? source->name : name);
	}

	detail = describe_handlers(&broken, &tables, &slotless);
	if (detail != NULL)
		status = DBOPT_DEGRADED;
	if ((broken.count > 0 && broken.count == look->nhandlers) ||
		(tables.count > 0 &&
		 tables.count == list_length(look->config->sources)))
		status = DBOPT_CRITICAL;
	dbopt_health_add(look, "handlers", status, "%s",
					 detail == NULL ? "all are ready" : detail);
}

/* ---- what is written down ------------------------------------------------ */

/*
 * The position of the next event must be higher than all that is written
 * down, or that event would be taken for one that was delivered before.
 */
static void
check_positions(DbOptHealthLook *look, List *chunks)
{
	int64		next = (int64) U64FromFullTransactionId(ReadNextFullTransactionId()) +
	look->config->position_offset;
	int64		highest;
	ListCell   *cell;

	if (look->config->foreign_identity)
	{
		dbopt_health_add(look, "positions", DBOPT_CRITICAL,
						 "this database was restored or copied, and waits for dbopt_resume()");
		return;
	}
	highest = dbopt_positions_highest();
	foreach(cell, chunks)
		highest = Max(highest, ((DbOptChunkId *) lfirst(cell))->to_position);
	if (highest >= next)
		dbopt_health_add(look, "positions", DBOPT_CRITICAL,
						 "new events would not be delivered: their positions are not above " INT64_FORMAT,
						 highest);
	else
		dbopt_health_add(look, "positions", DBOPT_HEALTHY,
						 "new events come behind all that were delivered");
}

static void
check_dead_letters(DbOptHealthLook *look)
{
	static DbOptOwnerPlan plan = {
		.sql = "SELECT count(*) FROM"
		" (SELECT FROM @extschema@.dbopt_dead_letter LIMIT $1) d"
	};
	int			degraded = dbopt_health_dead_letters;
	int64		critical = (int64) degraded * CRITICAL_LETTERS;
	DbOptOwnerArgs args = {0};
	int64		count;

	dbopt_owner_bind(&args, INT8OID, Int64GetDatum(Max(critical, 1)));
	dbopt_owner_query_kept(&plan, &args);
	count = dbopt_owner_int64(0, 1);
	if (count == 0)
		dbopt_health_add(look, "dead_letters", DBOPT_HEALTHY, "none");
	else
		dbopt_health_add(look, "dead_letters",
						 degraded == 0 ? DBOPT_HEALTHY :
						 dbopt_health_judge((double) count, degraded,
											(double) critical),
						 "%s" INT64_FORMAT " to be replayed or discarded",
						 count >= Max(critical, 1) ? "at least " : "", count);
}

/* Declared ones that are left invalid, or whose building was given up. */
static void
check_indexes(DbOptHealthLook *look)
{
	static DbOptOwnerPlan plan = {
		.sql = "SELECT d.name FROM @extschema@.dbopt_index d"
		" LEFT JOIN @extschema@.dbopt_index_state s ON s.name = d.name"
		" WHERE d.enabled AND (s.state = 'failed'"
		" OR (coalesce(s.state, 'idle') = 'idle' AND EXISTS"
		" (SELECT FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
		" WHERE c.relname = d.name::name AND NOT i.indisvalid)))"
		" ORDER BY d.name"
	};
	DbOptNames	names = {0};
	uint64		rows;

	rows = dbopt_owner_query_kept(&plan, NULL);
	for (uint64 row = 0; row < rows; row++)
		dbopt_names_add(&names, dbopt_owner_text(row, 1));
	if (rows == 0)
		dbopt_health_add(look, "indexes", DBOPT_HEALTHY,
						 "none has failed or is invalid");
	else
		dbopt_health_add(look, "indexes", DBOPT_DEGRADED,
						 "failed or invalid: %s; dbopt_index_status() tells why",
						 dbopt_names_text(&names));
}

/* How far a time that is stored is ahead of the clock. */
static void
check_clock(DbOptHealthLook *look, List *chunks)
{
	static DbOptOwnerPlan plan = {
		.sql = "SELECT greatest("
		"(SELECT max(registered_at) FROM @extschema@.dbopt_handler),"
		" (SELECT max(attached_at) FROM @extschema@.dbopt_source))"
	};
	TimestampTz latest = PgStartTime;
	bool		isnull;
	Datum		stored;
	double		ahead;
	ListCell   *cell;

	dbopt_owner_query_kept(&plan, NULL);
	stored = dbopt_owner_value(0, 1, &isnull);
	if (!isnull)
		latest = Max(latest, DatumGetTimestampTz(stored));
	foreach(cell, chunks)
		latest = Max(latest, ((DbOptChunkId *) lfirst(cell))->handed_out_at);
	for (int i = 0; i < look->nhandlers; i++)
	{
		latest = Max(latest, look->states[i].last_error_at);
		latest = Max(latest, look->states[i].last_success_at);
	}

	ahead = (double) (latest - look->now) / USECS_PER_SEC;
	if (ahead < DEGRADED_AHEAD)
		dbopt_health_add(look, "clock", DBOPT_HEALTHY, "it has not gone back");
	else
		dbopt_health_add(look, "clock",
						 dbopt_health_judge(ahead, DEGRADED_AHEAD, CRITICAL_AHEAD),
						 "it has gone back by %s: retries and breakers wait that much longer",
						 dbopt_age_text(latest - look->now));
}

/* ---- transactions -------------------------------------------------------- */

/*
 * The oldest transaction that keeps dead rows from being removed, and if it
 * has written something, its events from being seen and its position as a hole
 * in every cursor that has passed it.  Prepared ones are among them.
 */
#define LONG_TRANSACTIONS \
	"SELECT (extract(epoch FROM clock_timestamp() - since) * 1000000)::bigint, who, writes::int::bigint" \
	" FROM (SELECT xact_start, 'process ' || pid, backend_xid IS NOT NULL" \
	" FROM pg_stat_activity WHERE datid = $1 AND pid <> pg_backend_pid()" \
	" AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)" \
	" AND backend_type NOT IN ('autovacuum worker', 'walsender')" \
	" UNION ALL SELECT prepared, 'prepared transaction ' || quote_literal(gid), true" \
	" FROM pg_prepared_xacts WHERE database = (SELECT datname FROM pg_database WHERE oid = $1))" \
	" t (since, who, writes) WHERE since IS NOT NULL" \
	" ORDER BY writes DESC, since"

/* A transaction that has only read is degraded at worst. */
static void
check_transactions(DbOptHealthLook *look)
{
	static DbOptOwnerPlan plan = {.sql = LONG_TRANSACTIONS};
	DbOptOwnerArgs args = {0};
	DbOptHealth worst = DBOPT_HEALTHY;
	char	   *detail = NULL;
	uint64		rows;

	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(MyDatabaseId));
	rows = dbopt_owner_query_kept(&plan, &args);
	for (uint64 row = 0; row < rows; row++)
	{
		int64		age = dbopt_owner_int64(row, 1);
		bool		writes = dbopt_owner_int64(row, 3) != 0;
		DbOptHealth status = dbopt_health_of_age(age, dbopt_health_transaction_age);

		if (!writes)
			status = Min(status, DBOPT_DEGRADED);
		if (status <= worst)
			continue;
		worst = status;
		detail = psprintf("the transaction of %s is open for %s, and %s",
						  dbopt_owner_text(row, 2), dbopt_age_text(age),
						  writes ? "what it has written is not delivered before it ends" :
						  "keeps dead rows from being removed");
	}
	dbopt_health_add(look, "long_transactions", worst, "%s",
					 detail == NULL ? "none is open for long" : detail);
}

void
dbopt_health_look_stored(DbOptHealthLook *look)
{
	List	   *chunks = dbopt_chunks_load();
	DbOptOwnerScope scope;

	check_handlers(look);
	dbopt_health_look_backlog(look);
	check_positions(look, chunks);
	dbopt_owner_begin(&scope);
	check_dead_letters(look);
	check_indexes(look);
	check_transactions(look);
	check_clock(look, chunks);
	dbopt_owner_end(&scope);
}
