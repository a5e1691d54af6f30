/*
 * config_read.c
 *		Reading sources, handlers and policies from their tables.
 *
 * Run by whoever needs them (config.c), by heap scans with one snapshot.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/config_read.h"
#include "engine/extension.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A row, taken apart; text is palloc'd, NULL for NULL. */
typedef struct Row
{
	Oid			table;
	int			columns;
	Datum	   *values;
	bool	   *nulls;
} Row;

typedef void (*RowReader) (DbOptConfig *config, const Row *row);

static char *
row_text(const Row *row, int column)
{
	return row->nulls[column - 1] ? NULL :
		TextDatumGetCString(row->values[column - 1]);
}

static int
row_int(const Row *row, int column)
{
	return row->nulls[column - 1] ? 0 : DatumGetInt32(row->values[column - 1]);
}

static bool
row_bool(const Row *row, int column)
{
	return !row->nulls[column - 1] && DatumGetBool(row->values[column - 1]);
}

/* An interval in microseconds, months taken as 30 days; 0 for NULL. */
static int64
row_microseconds(const Row *row, int column)
{
	Interval   *span;
	double		microseconds;

	if (row->nulls[column - 1])
		return 0;
	span = DatumGetIntervalP(row->values[column - 1]);
	microseconds = span->time +
		(span->day + span->month * (double) DAYS_PER_MONTH) * USECS_PER_DAY;
	return microseconds >= (double) PG_INT64_MAX ? PG_INT64_MAX :
		(int64) microseconds;
}

/*
 * A dump that was restored over its own database has that one's identifiers,
 * and the OID of a table that is gone.  The row of version 1.0 does not tell.
 */
static bool
written_here(const Row *row)
{
	if (row->columns <= Natts_database_old)
		return true;
	return !row->nulls[Anum_database_table_oid - 1] &&
		DatumGetObjectId(row->values[Anum_database_table_oid - 1]) == row->table;
}

static void
read_database(DbOptConfig *config, const Row *row)
{
	uint64		system = DatumGetInt64(row->values[Anum_database_system_identifier - 1]);
	Oid			database = DatumGetObjectId(row->values[Anum_database_oid - 1]);

	config->foreign_identity = system != GetSystemIdentifier() ||
		database != MyDatabaseId || !written_here(row);
	config->position_offset =
		DatumGetInt64(row->values[Anum_database_position_offset - 1]) +
		(config->foreign_identity ? DBOPT_POSITION_ERA : 0);
	config->paused = config->foreign_identity ||
		row_bool(row, Anum_database_paused);
}

/*
 * An OID that the row refers to.  Until dbopt_resume() those of a restored
 * database are none of ours: whatever has one by chance is another table or
 * role.
 */
static Oid
row_reference(const DbOptConfig *config, const Row *row, int column)
{
	return config->foreign_identity ? InvalidOid :
		DatumGetObjectId(row->values[column - 1]);
}

static void
read_source(DbOptConfig *config, const Row *row)
{
	DbOptSource *source = palloc0(sizeof(DbOptSource));
	const char *state = row_text(row, Anum_source_state);

	source->source_id = row_int(row, Anum_source_id);
	source->relid = row_reference(config, row, Anum_source_events_oid);
	source->name = row_text(row, Anum_source_events_name);
	source->mark_processed = row_bool(row, Anum_source_mark_processed);
	source->building = strcmp(state, "building") == 0;
	source->usable = strcmp(state, "ready") == 0 &&
		get_rel_name(source->relid) != NULL;
	source->key_column = row_text(row, Anum_source_key_column);
	config->sources = lappend(config->sources, source);
}

static void
read_policy(DbOptConfig *config, const Row *row)
{
	DbOptPolicy *policy = palloc0(sizeof(DbOptPolicy));

	policy->name = row_text(row, Anum_policy_name);
	policy->max_attempts = row_int(row, Anum_policy_max_attempts);
	policy->backoff.base_delay = row_microseconds(row, Anum_policy_base_delay);
	policy->backoff.max_delay = row_microseconds(row, Anum_policy_max_delay);
	policy->backoff.multiplier =
		DatumGetFloat8(row->values[Anum_policy_multiplier - 1]);
	if (!dbopt_jitter_parse(row_text(row, Anum_policy_jitter),
							&policy->backoff.jitter))
		policy->backoff.jitter = DBOPT_JITTER_FULL;
	policy->adaptive = row_bool(row, Anum_policy_adaptive);
	policy->retry_unknown = row_bool(row, Anum_policy_retry_unknown);
	policy->breaker.failure_threshold =
		row_int(row, Anum_policy_failure_threshold);
	policy->breaker.reset_timeout =
		row_microseconds(row, Anum_policy_reset_timeout);
	policy->breaker.half_open_trials =
		row_int(row, Anum_policy_half_open_trials);
	config->policies = lappend(config->policies, policy);
}

static void
add_rule(DbOptPolicy *policy, const DbOptErrorRule *rule)
{
	policy->rules = policy->rules == NULL ? palloc(sizeof(DbOptErrorRule)) :
		repalloc(policy->rules,
				 sizeof(DbOptErrorRule) * (policy->nrules + 1));
	policy->rules[policy->nrules++] = *rule;
}

/* Reads a rule into its policy, or into all of them, which are there. */
static void
read_rule(DbOptConfig *config, const Row *row)
{
	char	   *name = row_text(row, Anum_error_policy);
	char	   *sqlstate = row_text(row, Anum_error_sqlstate);
	DbOptErrorRule rule = {0};
	ListCell   *cell;

	rule.own = name != NULL;
	strlcpy(rule.sqlstate, sqlstate ? sqlstate : "", sizeof(rule.sqlstate));
	rule.pattern = row_text(row, Anum_error_pattern);
	rule.retryable = row_bool(row, Anum_error_retryable);
	foreach(cell, config->policies)
	{
		DbOptPolicy *policy = lfirst(cell);

		if (name == NULL || strcmp(policy->name, name) == 0)
			add_rule(policy, &rule);
	}
}

static DbOptArgumentKind
argument_kind_parse(const char *kind)
{
	if (strcmp(kind, "array") == 0)
		return DBOPT_ARGUMENT_ARRAY;
	if (strcmp(kind, "jsonb") == 0)
		return DBOPT_ARGUMENT_JSONB;
	return DBOPT_ARGUMENT_ROW;
}

static void
read_handler(DbOptConfig *config, const Row *row)
{
	DbOptHandler *handler = palloc0(sizeof(DbOptHandler));

	handler->handler_id = row_int(row, Anum_handler_id);
	handler->name = row_text(row, Anum_handler_name);
	handler->event_type = row_text(row, Anum_handler_event_type);
	handler->source = dbopt_config_source(config,
										  row_int(row, Anum_handler_source_id));
	if (handler->source == NULL)
		return;					/* being restored: its source follows */
	handler->function = row_reference(config, row, Anum_handler_function_oid);
	handler->role = row_reference(config, row, Anum_handler_role_oid);
	handler->argument_kind =
		argument_kind_parse(row_text(row, Anum_handler_argument_kind));
	handler->policy = dbopt_config_policy(config,
										  row_text(row, Anum_handler_policy));
	if (handler->policy == NULL)
		handler->policy = dbopt_config_policy(config, "event");
	if (handler->policy == NULL)
		return;
	handler->max_concurrency = row_int(row, Anum_handler_max_concurrency);
	handler->chunk_size = row_int(row, Anum_handler_chunk_size);
	handler->timeout = row_microseconds(row, Anum_handler_timeout);
	handler->priority = row_int(row, Anum_handler_priority);
	handler->ordered = row_bool(row, Anum_handler_ordered);
	handler->start_position =
		DatumGetInt64(row->values[Anum_handler_start_position - 1]);
	handler->nstart_holes =
		dbopt_positions_from_array(row->values[Anum_handler_start_holes - 1],
								   &handler->start_holes);
	handler->paused = row_bool(row, Anum_handler_paused);
	handler->usable = handler->source->usable &&
		strcmp(row_text(row, Anum_handler_state), "ready") == 0;
	config->handlers = lappend(config->handlers, handler);
}

static void
read_rows(DbOptConfig *config, Snapshot snapshot, Relation rel,
		  RowReader reader)
{
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	tuple;
	Row			row;

	row.table = RelationGetRelid(rel);
	row.columns = desc->natts;
	row.values = palloc(sizeof(Datum) * desc->natts);
	row.nulls = palloc(sizeof(bool) * desc->natts);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		heap_deform_tuple(tuple, desc, row.values, row.nulls);
		reader(config, &row);
	}
	systable_endscan(scan);
}

static void
read_table(DbOptConfig *config, Snapshot snapshot, DbOptTable table,
		   RowReader reader)
{
	Relation	rel = dbopt_table_open(table, AccessShareLock);

	read_rows(config, snapshot, rel, reader);
	table_close(rel, AccessShareLock);
}

DbOptConfig *
dbopt_config_read(void)
{
	DbOptConfig *config = palloc0(sizeof(DbOptConfig));
	Snapshot	snapshot;

	if (!OidIsValid(dbopt_table_oid(DBOPT_DATABASE)))
		return config;
	config->installed = true;
	config->extension = get_extension_oid("dbopt", true);

	/*
	 * Sources without a row of identity: a restore that is still loading.
	 * Reading that row corrects it.
	 */
	config->foreign_identity = true;
	config->paused = true;

	config->newer_version = dbopt_newer_version();
	if (config->newer_version != NULL)
		return config;
	snapshot = dbopt_snapshot_new();
	read_table(config, snapshot, DBOPT_DATABASE, read_database);
	read_table(config, snapshot, DBOPT_SOURCE, read_source);
	read_table(config, snapshot, DBOPT_RETRY_POLICY, read_policy);
	read_table(config, snapshot, DBOPT_RETRYABLE_ERROR, read_rule);
	read_table(config, snapshot, DBOPT_HANDLER, read_handler);
	UnregisterSnapshot(snapshot);
	if (config->sources == NIL && config->position_offset == 0 &&
		config->foreign_identity)
		config->paused = config->foreign_identity = false;
	if (OidIsValid(dbopt_tables_unfit_owner()))
		config->paused = true;	/* anybody could be made to run anything */
	return config;
}

/* The snapshot is taken when whoever changes the table is done. */
void
dbopt_config_read_database(DbOptConfig *config)
{
	Relation	rel = dbopt_table_open(DBOPT_DATABASE, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();

	read_rows(config, snapshot, rel, read_database);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

/* Does not wait for an update of the extension, which tells when it is through. */
bool
dbopt_config_has_sources(void)
{
	Oid			relid = dbopt_table_oid(DBOPT_SOURCE);
	Relation	rel;
	bool		found = false;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return false;
	}
	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		Snapshot	snapshot = dbopt_snapshot_new();
		SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot,
											  0, NULL);

		found = HeapTupleIsValid(systable_getnext(scan));
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
	table_close(rel, AccessShareLock);
	return found;
}
