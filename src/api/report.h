/*
 * report.h
 *		What the sections of dbopt_report() share.
 */
#ifndef DBOPT_REPORT_H
#define DBOPT_REPORT_H

#include "lib/stringinfo.h"
#include "state/shmem.h"

typedef struct DbOptReportHandler
{
	int32		handler_id;
	char	   *name;
	char	   *event_type;
	char	   *events;			/* the table, qualified */
	char	   *state;			/* ready, building, broken */
	char	   *reason;			/* NULL: it is ready */
	bool		paused;
	bool		shows_errors;	/* to the caller */
	int64		waiting;		/* events; -1: not known */
	int64		retrying;
	int64		dead;
	int64		lag;			/* microseconds; -1: nothing waits, or its age
								 * is not known */
	TimestampTz next_retry_at;	/* 0: no retry is due */

	/* From shared memory; all zero when it never ran. */
	DbOptHandlerState shared;
	uint32		in_flight;
	DbOptHandlerMinute minutes[DBOPT_MINUTES];
	int64		successes;		/* in these */
	int64		failures;
	int			trouble;		/* how much it wants to be looked at; 0: not */
} DbOptReportHandler;

/* A row of dbopt_health(). */
typedef struct DbOptReportCheck
{
	char	   *name;
	char	   *status;
	char	   *detail;
} DbOptReportCheck;

/* As dbopt_pool_stats() has them. */
typedef struct DbOptReportPool
{
	int64		used;
	int64		free;
	int64		waiting;
	int64		max;
	char	   *health;
} DbOptReportPool;

/* Of the whole database. */
typedef struct DbOptReportHour
{
	uint64		successes;
	uint64		failures;
	uint64		dead_letters;
	uint32		used;			/* sessions at a time, at most */
	uint32		waiting;		/* jobs at a time, at most */
	DbOptHistogram times;
} DbOptReportHour;

typedef struct DbOptReportPage
{
	StringInfoData html;
	TimestampTz now;
	Oid			caller;
	bool		all_errors;		/* the caller is of pg_read_all_stats */
	bool		standby;
	bool		paused;
	bool		restored;		/* or copied, and not resumed */
	pid_t		scheduler_pid;	/* 0: none is running */

	int			nchecks;
	DbOptReportCheck *checks;	/* "overall" first, then what is worst */

	DbOptDatabaseMinute minutes[DBOPT_MINUTES]; /* the oldest first */
	DbOptReportHour hour;		/* all of them */
	DbOptReportPool pool;
	DbOptHandlerState database_breaker;

	int			nhandlers;
	DbOptReportHandler *handlers;	/* those in trouble first, then the
									 * busiest */
	int64		waiting;		/* of all handlers */
	int64		retrying;
	int64		dead;
	int64		lag;			/* the longest; -1: none */
} DbOptReportPage;

/* Reads all that more than one section shows; as the extension's owner. */
extern void dbopt_report_gather(DbOptReportPage *page);

/* Each writes one part of the page, in this order. */
extern const char *dbopt_report_style(void);
extern void dbopt_report_summary(DbOptReportPage *page);
extern void dbopt_report_health(DbOptReportPage *page);
extern void dbopt_report_hour(DbOptReportPage *page);
extern void dbopt_report_handlers(DbOptReportPage *page);
extern void dbopt_report_breakers(DbOptReportPage *page);
extern void dbopt_report_pool(DbOptReportPage *page);
extern void dbopt_report_indexes(DbOptReportPage *page);
extern void dbopt_report_dead_letters(DbOptReportPage *page);

/* A section's beginning; it ends with </section>. */
extern void dbopt_report_section(DbOptReportPage *page, const char *id,
								 const char *title);

/* The mark of a status of dbopt_health() or dbopt_pool_stats(). */
extern const char *dbopt_report_health_kind(const char *status);

/* A mark of good, warn, bad or idle, with a sign, and its text. */
extern void dbopt_report_badge(StringInfo html, const char *kind,
							   const char *text);

#endif							/* DBOPT_REPORT_H */
