/*
 * guc.c
 *		The settings dbopt.*
 *
 * Defined once per process, by _PG_init().  What sizes shared memory exists
 * only in a preloaded library.  Nothing here can be changed by an ordinary
 * user: the settings steer background processes that serve everybody.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "state/guc.h"
#include "utils/guc.h"

#define FROM_ENVIRONMENT (-1)
#define MAX_SESSIONS	10000

int			dbopt_chunk_size = 5000;
int			dbopt_max_handlers = 1024;
int			dbopt_max_workers = -1;
int			dbopt_shutdown_timeout = 10000;
int			dbopt_pool_reserved = 0;
bool		dbopt_auto_index = false;
int			dbopt_index_inline_pages = 1000;
int			dbopt_log_level = LOG;
int			dbopt_health_backlog_age = 60000;
int			dbopt_health_transaction_age = 600000;
int			dbopt_health_dead_letters = 1;
int			dbopt_alert_delay = 10000;

static int	environment = DBOPT_ENV_DEVELOPMENT;
static int	pool_min = FROM_ENVIRONMENT;
static int	pool_max = FROM_ENVIRONMENT;
static int	pool_idle_timeout = FROM_ENVIRONMENT;
static int	pool_acquire_timeout = FROM_ENVIRONMENT;
static int	pool_create_timeout = FROM_ENVIRONMENT;

static const struct config_enum_entry environments[] = {
	{"development", DBOPT_ENV_DEVELOPMENT, false},
	{"test", DBOPT_ENV_TEST, false},
	{"staging", DBOPT_ENV_STAGING, false},
	{"production", DBOPT_ENV_PRODUCTION, false},
	{"high_load", DBOPT_ENV_HIGH_LOAD, false},
	{NULL, 0, false}
};

static const struct config_enum_entry log_levels[] = {
	{"debug5", DEBUG5, false},
	{"debug4", DEBUG4, false},
	{"debug3", DEBUG3, false},
	{"debug2", DEBUG2, false},
	{"debug1", DEBUG1, false},
	{"debug", DEBUG2, true},
	{"info", INFO, false},
	{"notice", NOTICE, false},
	{"warning", WARNING, false},
	{"log", LOG, false},
	{NULL, 0, false}
};

static const DbOptPoolLimits environment_limits[] = {
	[DBOPT_ENV_DEVELOPMENT] = {1, 5, 10000, 30000, 30000},
	[DBOPT_ENV_TEST] = {1, 3, 5000, 30000, 30000},
	[DBOPT_ENV_STAGING] = {5, 20, 60000, 45000, 30000},
	[DBOPT_ENV_PRODUCTION] = {10, 30, 300000, 60000, 60000},
	[DBOPT_ENV_HIGH_LOAD] = {20, 50, 600000, 90000, 60000}
};

static void
define_startup_settings(void)
{
	DefineCustomIntVariable("dbopt.max_handlers",
							"Maximum number of handlers in the cluster that have statistics and a circuit breaker.",
							NULL, &dbopt_max_handlers,
							1024, 1, 1000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.max_workers",
							"Maximum number of pool sessions in the cluster.",
							"-1 means max_worker_processes - 4, at least 1.",
							&dbopt_max_workers,
							-1, -1, MAX_SESSIONS,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static void
define_pool_settings(void)
{
	DefineCustomEnumVariable("dbopt.environment",
							 "Chooses the limits of the session pool.",
							 NULL, &environment,
							 DBOPT_ENV_DEVELOPMENT, environments,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_min",
							"Pool sessions kept alive per database.",
							"-1 takes the value of dbopt.environment.",
							&pool_min,
							FROM_ENVIRONMENT, FROM_ENVIRONMENT, MAX_SESSIONS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_max",
							"Maximum number of pool sessions per database.",
							"-1 takes the value of dbopt.environment.",
							&pool_max,
							FROM_ENVIRONMENT, FROM_ENVIRONMENT, MAX_SESSIONS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_reserved",
							"Pool sessions per database that events leave free for other jobs.",
							NULL, &dbopt_pool_reserved,
							0, 0, MAX_SESSIONS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_idle_timeout",
							"Time after which an idle pool session above dbopt.pool_min ends.",
							"-1 takes the value of dbopt.environment.",
							&pool_idle_timeout,
							FROM_ENVIRONMENT, FROM_ENVIRONMENT, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_acquire_timeout",
							"Time that a caller waits for a pool session.",
							"-1 takes the value of dbopt.environment.",
							&pool_acquire_timeout,
							FROM_ENVIRONMENT, FROM_ENVIRONMENT, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.pool_create_timeout",
							"Time within which a new pool session must have connected.",
							"-1 takes the value of dbopt.environment.",
							&pool_create_timeout,
							FROM_ENVIRONMENT, FROM_ENVIRONMENT, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_engine_settings(void)
{
	DefineCustomIntVariable("dbopt.chunk_size",
							"Maximum number of events that a session takes at a time.",
							NULL, &dbopt_chunk_size,
							5000, 1, 100000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.shutdown_timeout",
							"Time within which dbopt's workers are gone when they are told to stop.",
							NULL, &dbopt_shutdown_timeout,
							10000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("dbopt.auto_index",
							 "Builds the indexes of dbopt_index where they are missing.",
							 NULL, &dbopt_auto_index,
							 false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.index_inline_pages",
							"Tables up to this size get their indexes at once, not concurrently.",
							NULL, &dbopt_index_inline_pages,
							1000, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_BLOCKS, NULL, NULL, NULL);
	DefineCustomEnumVariable("dbopt.log_level",
							 "Level of the messages about failed events and the pool's work.",
							 NULL, &dbopt_log_level,
							 LOG, log_levels,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_health_settings(void)
{
	DefineCustomIntVariable("dbopt.health_backlog_age",
							"Age of the oldest event that waits from which the health is degraded.",
							"Critical from ten times that age.",
							&dbopt_health_backlog_age,
							60000, 1, INT_MAX / 10,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.health_transaction_age",
							"Age of an open transaction from which the health is degraded.",
							"Critical from ten times that age, if it has written something.",
							&dbopt_health_transaction_age,
							600000, 1, INT_MAX / 10,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.health_dead_letters",
							"Number of dead letters from which the health is degraded.",
							"Critical from a hundred times that number; 0 means that any number is healthy.",
							&dbopt_health_dead_letters,
							1, 0, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dbopt.alert_delay",
							"Time that a worse health must last before it is logged and notified.",
							"A better one must last six times as long. -1 means that no change is told.",
							&dbopt_alert_delay,
							10000, -1, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/*
 * Defines the settings.  Those that are fixed at server start can be defined
 * only while the library is being preloaded.
 */
void
dbopt_guc_define(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_startup_settings();
	define_pool_settings();
	define_engine_settings();
	define_health_settings();
	MarkGUCPrefixReserved("dbopt");
}

const char *
dbopt_environment_name(void)
{
	return environments[environment].name;
}

static int
override(int setting, int from_environment)
{
	return setting == FROM_ENVIRONMENT ? from_environment : setting;
}

/*
 * The pool's limits in force.  max is at least 1, and min never above it.
 */
DbOptPoolLimits
dbopt_pool_limits(void)
{
	DbOptPoolLimits limits = environment_limits[environment];

	limits.min = override(pool_min, limits.min);
	limits.max = Max(override(pool_max, limits.max), 1);
	limits.min = Min(limits.min, limits.max);
	limits.idle_timeout = override(pool_idle_timeout, limits.idle_timeout);
	limits.acquire_timeout = override(pool_acquire_timeout,
									  limits.acquire_timeout);
	limits.create_timeout = override(pool_create_timeout,
									 limits.create_timeout);
	return limits;
}

/*
 * Session slots in the cluster: dbopt.max_workers, or what other users of
 * background workers leave.
 */
int
dbopt_session_slots(void)
{
	if (dbopt_max_workers >= 0)
		return Max(dbopt_max_workers, 1);
	return Max(max_worker_processes - 4, 1);
}
