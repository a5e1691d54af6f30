/*
 * owner_spi.c
 *		Statements on dbopt's own tables, run as the extension's owner.
 *
 * Run by whoever calls an SQL function of ours.  The user id is switched with
 * SECURITY_LOCAL_USERID_CHANGE, so that SET ROLE cannot be reached, and in a
 * security-restricted operation, since an owner who is no superuser may have
 * given the tables triggers, which must leave nothing to the commit.  The
 * search path is pinned to pg_catalog in a GUC nest level of its own.  Both
 * are undone by dbopt_owner_end(); after an error the abort of the
 * (sub)transaction undoes both, and releases SPI.  No locks are held here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "engine/catalog.h"
#include "engine/extension.h"
#include "engine/owner_spi.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Pins a setting until dbopt_owner_end(), whoever the caller is: to be used for
 * settings that everybody may set.
 */
void
dbopt_owner_pin(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Becomes the extension's owner, with a pinned search path and connected to
 * SPI.  The tables must be of a version that we know.
 */
void
dbopt_owner_begin(DbOptOwnerScope *scope)
{
	dbopt_owner_begin_as(scope, dbopt_extension_owner(),
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
}

void
dbopt_owner_switch(DbOptOwnerScope *scope, Oid owner, int security_context)
{
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(owner, scope->security_context | security_context);
	scope->guc_level = NewGUCNestLevel();
	dbopt_owner_pin("search_path", "pg_catalog, pg_temp");
	dbopt_owner_pin("row_security", "off");
}

void
dbopt_owner_switch_back(const DbOptOwnerScope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
}

/* The same as the owner of another table, in a security context of its own. */
void
dbopt_owner_begin_as(DbOptOwnerScope *scope, Oid owner, int security_context)
{
	dbopt_owner_switch(scope, owner, security_context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

/* Becomes the caller again; what SPI allocated is gone afterwards. */
void
dbopt_owner_end(const DbOptOwnerScope *scope)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	dbopt_owner_switch_back(scope);
}

static void
bind_value(DbOptOwnerArgs *args, Oid type, Datum value, char null)
{
	if (args->count >= DBOPT_OWNER_MAX_ARGS)
		elog(ERROR, "too many arguments of a statement");
	args->types[args->count] = type;
	args->values[args->count] = value;
	args->nulls[args->count] = null;
	args->count++;
}

/* Adds the next parameter. */
void
dbopt_owner_bind(DbOptOwnerArgs *args, Oid type, Datum value)
{
	bind_value(args, type, value, ' ');
}

/* Adds NULL as the next parameter. */
void
dbopt_owner_bind_null(DbOptOwnerArgs *args, Oid type)
{
	bind_value(args, type, (Datum) 0, 'n');
}

/* Adds a text as the next parameter; a NULL pointer is SQL's NULL. */
void
dbopt_owner_bind_text(DbOptOwnerArgs *args, const char *value)
{
	if (value == NULL)
		dbopt_owner_bind_null(args, TEXTOID);
	else
		dbopt_owner_bind(args, TEXTOID, CStringGetTextDatum(value));
}

/*
 * The name of our schema stands in the statement, so that a plan from before
 * it was renamed is of another one; after all other changes PostgreSQL itself
 * plans anew.
 */
static SPIPlanPtr
kept_plan(DbOptOwnerPlan *kept, DbOptOwnerArgs *args)
{
	char	   *statement = dbopt_sql(kept->sql);
	SPIPlanPtr	plan;

	if (kept->plan != NULL && strcmp(kept->statement, statement) == 0)
		return kept->plan;
	if (kept->plan != NULL)
	{
		SPI_freeplan(kept->plan);
		kept->plan = NULL;
		pfree(kept->statement);
	}
	plan = SPI_prepare_cursor(statement, args->count, args->types,
							  CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not plan a statement of dbopt: %s",
			 SPI_result_code_string(SPI_result));
	kept->statement = MemoryContextStrdup(TopMemoryContext, statement);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep a plan of dbopt");
	kept->plan = plan;
	return plan;
}

/*
 * SPI wants a snapshot of its caller's to be there, which a session that runs
 * no statement does not have.  The statement is that of "kept", unless this is
 * NULL.
 */
static uint64
run(const char *statement, DbOptOwnerPlan *kept, const DbOptOwnerArgs *args,
	bool read_only)
{
	DbOptOwnerArgs none = {0};
	DbOptOwnerArgs *given = args ? unconstify(DbOptOwnerArgs *, args) : &none;
	bool		pushed = !ActiveSnapshotSet();
	int			result;

	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (kept == NULL)
		result = SPI_execute_with_args(statement, given->count, given->types,
									   given->values, given->nulls, read_only,
									   0);
	else
		result = SPI_execute_plan(kept_plan(kept, given),
								  given->values, given->nulls, read_only, 0);
	if (pushed)
		PopActiveSnapshot();
	if (result < 0)
		elog(ERROR, "could not run a statement of dbopt: %s",
			 SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * Runs a statement with a snapshot of its own and returns the number of rows
 * processed or returned.  NULL for args: there are none.
 */
uint64
dbopt_owner_execute(const char *statement, const DbOptOwnerArgs *args)
{
	return run(statement, NULL, args, false);
}

/*
 * Runs a query with the snapshot of the calling statement and returns the
 * number of rows: for functions that only report.
 */
uint64
dbopt_owner_query(const char *statement, const DbOptOwnerArgs *args)
{
	return run(statement, NULL, args, true);
}

/*
 * The same for a query that is run again and again: its plan is made once, for
 * any parameters, and kept for the life of the process.
 */
uint64
dbopt_owner_query_kept(DbOptOwnerPlan *kept, const DbOptOwnerArgs *args)
{
	return run(NULL, kept, args, true);
}

/*
 * A column, counted from 1, of a row, counted from 0, of the last statement's
 * result.  Valid until dbopt_owner_end().
 */
Datum
dbopt_owner_value(uint64 row, int column, bool *isnull)
{
	Assert(row < SPI_processed);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/* The same in the text form of its type; NULL for NULL. */
char *
dbopt_owner_text(uint64 row, int column)
{
	Assert(row < SPI_processed);
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						column);
}

/* The same of a bigint column; 0 for NULL. */
int64
dbopt_owner_int64(uint64 row, int column)
{
	bool		isnull;
	Datum		value = dbopt_owner_value(row, column, &isnull);

	Assert(SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT8OID);
	return isnull ? 0 : DatumGetInt64(value);
}
