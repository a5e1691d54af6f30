/*
 * guc.h
 *		The settings dbopt.*; README has the table of defaults and meanings.
 */
#ifndef DBOPT_GUC_H
#define DBOPT_GUC_H

typedef enum DbOptEnvironment
{
	DBOPT_ENV_DEVELOPMENT,
	DBOPT_ENV_TEST,
	DBOPT_ENV_STAGING,
	DBOPT_ENV_PRODUCTION,
	DBOPT_ENV_HIGH_LOAD
} DbOptEnvironment;

/* The pool's limits that are in force: a setting, or its environment's. */
typedef struct DbOptPoolLimits
{
	int			min;			/* sessions kept warm, per database */
	int			max;			/* sessions at most, per database */
	int			idle_timeout;	/* milliseconds */
	int			acquire_timeout;	/* milliseconds */
	int			create_timeout; /* milliseconds */
} DbOptPoolLimits;

extern int	dbopt_chunk_size;	/* events */
extern int	dbopt_max_handlers; /* handlers in the cluster */
extern int	dbopt_max_workers;	/* sessions in the cluster; -1 is resolved by
								 * dbopt_session_slots() */
extern int	dbopt_shutdown_timeout; /* milliseconds */
extern int	dbopt_pool_reserved;	/* sessions */
extern bool dbopt_auto_index;
extern int	dbopt_index_inline_pages;	/* pages */
extern int	dbopt_log_level;	/* an elevel */
extern int	dbopt_health_backlog_age;	/* milliseconds */
extern int	dbopt_health_transaction_age;	/* milliseconds */
extern int	dbopt_health_dead_letters;	/* 0: any number is healthy */
extern int	dbopt_alert_delay;	/* milliseconds, -1: no alerts */

extern void dbopt_guc_define(void);
extern const char *dbopt_environment_name(void);
extern DbOptPoolLimits dbopt_pool_limits(void);
extern int	dbopt_session_slots(void);

#endif							/* DBOPT_GUC_H */
