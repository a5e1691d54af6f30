/*
 * index_status.c
 *		dbopt_index_status(): what is declared, held against the catalogue.
 *
 * Run by members of pg_monitor.  Sizes and counts are read as the extension's
 * owner; error texts, which may hold a key of the table, are shown to members
 * of the table's owner and of pg_read_all_stats only.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/index_state.h"
#include "engine/index_target.h"
#include "engine/owner_spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dbopt_index_status);

enum
{
	STATUS_NAME,
	STATUS_TABLE_NAME,
	STATUS_STATUS,
	STATUS_REASON,
	STATUS_SIZE_BYTES,
	STATUS_SCANS,
	STATUS_LAST_ERROR,
	STATUS_PROGRESS,
	STATUS_COLUMNS
};

typedef struct StatusRow
{
	Datum		values[STATUS_COLUMNS];
	bool		nulls[STATUS_COLUMNS];
} StatusRow;

static void
put_text(StatusRow *row, int column, const char *string)
{
	row->nulls[column] = string == NULL;
	if (string != NULL)
		row->values[column] = CStringGetTextDatum(string);
}

/*
 * What the pool is to do, or does, counts until the index is as declared.
 */
static const char *
status_name(const DbOptIndexTarget *target, const DbOptIndexState *state)
{
	static const char *const conditions[] = {
		[DBOPT_INDEX_VALID] = "valid",
		[DBOPT_INDEX_INVALID] = "invalid",
		[DBOPT_INDEX_DIFFERENT] = "different",
		[DBOPT_INDEX_MISSING] = "missing",
		[DBOPT_INDEX_INAPPLICABLE] = "inapplicable"
	};

	if (state == NULL || state->progress == DBOPT_INDEX_IDLE ||
		target->condition == DBOPT_INDEX_VALID ||
		target->condition == DBOPT_INDEX_INAPPLICABLE)
		return conditions[target->condition];
	return dbopt_index_progress_name(state->progress);
}

static void
put_figures(StatusRow *row, Oid index)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};
	bool		isnull;

	dbopt_owner_begin(&scope);
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(index));
	dbopt_owner_query("SELECT sum(pg_relation_size(i.oid))::bigint,"
					  " sum(pg_stat_get_numscans(i.oid))::bigint"
					  " FROM (SELECT $1 UNION SELECT relid FROM pg_partition_tree($1)) i (oid)",
					  &args);
	row->values[STATUS_SIZE_BYTES] = dbopt_owner_value(0, 1, &isnull);
	row->nulls[STATUS_SIZE_BYTES] = isnull;
	row->values[STATUS_SCANS] = dbopt_owner_value(0, 2, &isnull);
	row->nulls[STATUS_SCANS] = isnull;
	dbopt_owner_end(&scope);
}

static bool
may_see_errors(Oid owner)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		(OidIsValid(owner) && has_privs_of_role(GetUserId(), owner));
}

static void
put_index(ReturnSetInfo *result, const DbOptIndexRow *declared,
		  const DbOptIndexState *state)
{
	DbOptIndexTarget target;
	StatusRow	row;

	dbopt_index_examine(declared, &target);
	memset(row.nulls, true, sizeof(row.nulls));
	put_text(&row, STATUS_NAME, declared->name);
	put_text(&row, STATUS_TABLE_NAME, declared->table_name);
	put_text(&row, STATUS_STATUS, status_name(&target, state));
	put_text(&row, STATUS_REASON, target.reason);
	if (OidIsValid(target.index))
		put_figures(&row, target.index);
	if (state != NULL && may_see_errors(target.owner))
		put_text(&row, STATUS_LAST_ERROR, state->error_message);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values,
						 row.nulls);
}

/*
 * dbopt_index_status() RETURNS SETOF record
 */
Datum
dbopt_index_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *states;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	states = dbopt_index_states();
	foreach(cell, dbopt_index_rows())
	{
		DbOptIndexRow *declared = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		put_index(result, declared,
				  dbopt_index_state_find(states, declared->name));
	}
	return (Datum) 0;
}
