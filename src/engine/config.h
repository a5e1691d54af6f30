/*
 * config.h
 *		Sources, handlers and policies as the engine needs them, cached per
 *		backend and read anew when one of their tables has changed.
 */
#ifndef DBOPT_CONFIG_H
#define DBOPT_CONFIG_H

#include "nodes/pg_list.h"
#include "policy/backoff.h"
#include "policy/breaker.h"
#include "policy/classify.h"

typedef struct DbOptPolicy
{
	char	   *name;
	int			max_attempts;
	DbOptBackoff backoff;
	bool		adaptive;
	bool		retry_unknown;
	DbOptBreakerConfig breaker;
	DbOptErrorRule *rules;
	int			nrules;
} DbOptPolicy;

typedef struct DbOptSource
{
	int32		source_id;
	Oid			relid;
	char	   *name;			/* stored: of one that is gone, too */
	bool		mark_processed;
	bool		usable;			/* state 'ready' and the table is there */
	bool		building;		/* state 'building' */
	char	   *key_column;
} DbOptSource;

typedef enum DbOptArgumentKind
{
	DBOPT_ARGUMENT_ROW,
	DBOPT_ARGUMENT_ARRAY,
	DBOPT_ARGUMENT_JSONB
} DbOptArgumentKind;

typedef struct DbOptHandler
{
	int32		handler_id;
	char	   *name;
	char	   *event_type;		/* exact, or ends in "*" */
	DbOptSource *source;
	Oid			function;
	Oid			role;
	DbOptArgumentKind argument_kind;
	DbOptPolicy *policy;		/* "event" when its own is gone */
	int			max_concurrency;	/* 0: no limit of its own */
	int			chunk_size;		/* 0: dbopt.chunk_size */
	int64		timeout;		/* microseconds, 0: none */
	int			priority;
	bool		ordered;
	bool		paused;
	bool		usable;			/* state 'ready' and its source usable */
	int64		start_position;
	int64	   *start_holes;
	int			nstart_holes;
} DbOptHandler;

/*
 * More than any cluster counts transactions.  In a restored or copied database
 * events are written that far behind those it came with, from its first
 * transaction on, and dbopt_resume() makes that its offset.
 */
#define DBOPT_POSITION_ERA	(INT64CONST(1) << 48)

typedef struct DbOptConfig
{
	bool		installed;		/* the extension is in this database */
	Oid			extension;		/* this one; another when it is created anew */
	char	   *newer_version;	/* of the extension, which the library does
								 * not know: nothing else is read; or NULL */
	bool		paused;			/* dbopt_pause(), or a restored or copied
								 * database */
	bool		foreign_identity;	/* restored or copied, not yet resumed */
	int64		position_offset;	/* that of dbopt_position_offset() */
	List	   *sources;		/* of DbOptSource * */
	List	   *handlers;		/* of DbOptHandler * */
	List	   *policies;		/* of DbOptPolicy * */
} DbOptConfig;

/*
 * In a transaction.  Valid until the next call of dbopt_config_get(), or, in a
 * process that holds it, until it releases all: a job holds the configuration
 * while handlers run, since they may call functions that read it anew.
 */
extern const DbOptConfig *dbopt_config_get(void);

/*
 * The same where the extension is of a newer version than the library, for
 * those who have to go on then: without sources and handlers, and paused.
 * dbopt_config_get() raises 55000.
 */
extern const DbOptConfig *dbopt_config_look(void);

/*
 * The policy of this name, or NULL: for callers that may be many, and look at
 * nothing else.  Of policies everybody is told, also when they are restored.
 */
extern const DbOptPolicy *dbopt_config_policy_get(const char *name);

extern void dbopt_config_hold(void);
extern void dbopt_config_release(void);

/*
 * What is added to a transaction id to give a log position.  For writers: to
 * be called when the events table is locked, which has brought all
 * invalidations in; does not read the rest.
 */
extern int64 dbopt_position_offset(void);

/*
 * For writers, too: is this database a restored or copied one that has not
 * been resumed, whose rows may still be on their way?
 */
extern bool dbopt_positions_foreign(void);

/* The same object for as long as nothing changed; moves when something did. */
extern uint64 dbopt_config_generation(void);

extern DbOptHandler *dbopt_config_handler(const DbOptConfig *config,
										  int32 handler_id);
extern DbOptSource *dbopt_config_source(const DbOptConfig *config,
										int32 source_id);
extern DbOptSource *dbopt_config_source_of(const DbOptConfig *config,
										   Oid relid);
extern DbOptPolicy *dbopt_config_policy(const DbOptConfig *config,
										const char *name);

/* Does the pattern match, and how specific is it?  -1: no match. */
extern int	dbopt_pattern_match(const char *pattern, const char *event_type);

/* On a mark_processed source: who gets this event type now?  NULL: nobody. */
extern DbOptHandler *dbopt_config_most_specific(const DbOptConfig *config,
												const DbOptSource *source,
												const char *event_type);

/* For those who change one of the tables: every backend reads it anew. */
extern void dbopt_config_changed(void);

#endif							/* DBOPT_CONFIG_H */
