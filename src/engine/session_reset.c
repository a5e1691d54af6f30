/*
 * session_reset.c
 *		Between two jobs: nothing of the first is left for the second.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "compat.h"
#include "engine/exec.h"
#include "engine/session.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/portal.h"

/*
 * What one job knows of the numbers to come, the next must not rely on.
 */
static void
reset_random(void)
{
	double		seed = 2 * pg_prng_double(&pg_global_prng_state) - 1;

	(void) DirectFunctionCall1(setseed, Float8GetDatum(seed));
}

/*
 * A replication origin marks all that the session writes as replicated, so that
 * it may not be sent on.
 */
static void
reset_origin(void)
{
	if (replorigin_session_origin != InvalidRepOriginId)
		(void) OidFunctionCall0(F_PG_REPLICATION_ORIGIN_SESSION_RESET);
}

static bool
has_other_role(void)
{
	return OidIsValid(GetCurrentRoleId()) ||
		GetUserId() != GetAuthenticatedUserId() ||
		GetSessionUserId() != GetAuthenticatedUserId();
}

/*
 * The role comes back last: who is another one now may not be allowed to.
 * Looking roles up is left for when there is need.
 */
static void
reset_settings(void)
{
	reset_origin();
	if (has_other_role())
	{
		SetPGVariable("session_authorization", NIL, false);
		SetPGVariable("role", NIL, false);
	}
	ResetAllOptions();
}

void
dbopt_session_reset_settings(void)
{
	reset_settings();
	dbopt_session_plans_check();
}

/*
 * A slot for replication that was in use when an error came would stay so, as
 * would one that is to last as long as the session.
 */
static void
reset_slots(void)
{
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	dbopt_replication_slot_cleanup();
}

/* A backup that was begun is nobody's to end. */
static void
reset_backup(void)
{
	if (get_backup_status() != SESSION_BACKUP_NONE)
		do_pg_abort_backup(0, BoolGetDatum(false));
}

/*
 * Which tablespaces temp_tablespaces names is found out once a transaction, and
 * a reset that has none would leave the next one with what was set here.
 */
static void
forget_temp_tablespaces(void)
{
	if (TempTablespacesAreSet())
		AtEOXact_Files(true);
}

/* Of all that a job can leave, what can only be undone in a transaction. */
static bool
needs_transaction(void)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	return OidIsValid(temp_namespace) || has_other_role();
}

/*
 * The steps of DISCARD ALL, the random numbers and what there is of replication
 * and backups, but not the plan cache, which makes the next job fast: see
 * session_plans.c.  Settings return to what they were when the session began:
 * the role's and the database's own.  A background worker cannot LISTEN.
 */
static void
reset(void *arg)
{
	bool		transaction = needs_transaction();

	HOLD_CANCEL_INTERRUPTS();
	dbopt_session_plans_rest();
	reset_slots();
	reset_backup();
	if (transaction)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}

	PortalHashTableDeleteAll();
	reset_settings();
	DropAllPreparedStatements();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetSequenceCaches();
	reset_random();

	if (transaction)
	{
		ResetTempTableNamespace();
		CommitTransactionCommand();
	}
	forget_temp_tablespaces();
	RESUME_CANCEL_INTERRUPTS();
}

ErrorData *
dbopt_session_reset(void)
{
	ErrorData  *error = dbopt_exec_guard_all(reset, NULL);

	QueryCancelPending = false;
	return error;
}

void
dbopt_session_give_up(const ErrorData *error)
{
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);
	DbOptLogLine line = {
		.kind = DBOPT_LOG_POOL,
		.slot = dbopt_handler_find(MyDatabaseId, 0),
		.sqlstate = sqlstate
	};

	line.message = psprintf("a dbopt session could not be reset, and ends: %s",
							dbopt_log_error_text(sqlstate, error->message));
	dbopt_log_line(&line);
	proc_exit(1);
}
