/*
 * shmem.h
 *		What lives in shared memory, and which rule protects each field.
 *
 * One segment, "dbopt", allocated when the library is preloaded: a header,
 * one DbOptDatabase for each database with a scheduler, one DbOptSession for
 * each pool session, one DbOptHandlerState for each registered handler (and
 * one with handler_id 0 for each database's circuit breaker "database").
 * Zeroed memory is a valid start.
 *
 * A slot is free when its dboid is InvalidOid.  Whoever keeps a slot's number
 * keeps its generation beside it, which moves whenever the slot is given out
 * anew.  No pointers into a process are stored: a process is known by its
 * number in the ProcArray (for its latch) and its pid.
 *
 * Lock order: dbopt_shared->lock, then any one spinlock.  Never two
 * spinlocks, never a call that can fail under one.
 */
#ifndef DBOPT_SHMEM_H
#define DBOPT_SHMEM_H

#include "datatype/timestamp.h"
#include "policy/breaker.h"
#include "policy/breaker_log.h"
#include "policy/histogram.h"
#include "policy/minutes.h"
#include "port/atomics.h"
#include "state/job_order.h"
#include "storage/condition_variable.h"
#include "storage/dsm_impl.h"
#include "storage/lwlock.h"
#include "storage/s_lock.h"

#define DBOPT_MAX_DATABASES		64
#define DBOPT_MAX_HOLDS			16
#define DBOPT_LAUNCHER_NEWS_SIZE 16
#define DBOPT_NOTED_TYPES		16	/* event types that a transaction notes
									 * one by one */
#define DBOPT_NEWS_SIZE			64	/* event types a scheduler can be told of
									 * one by one */
#define DBOPT_UNWANTED_TYPES	256 /* event types that a scheduler need not
									 * be told of */
#define DBOPT_ERROR_LENGTH		256
#define DBOPT_DEPARTURES		16	/* events that a handler has ended its
									 * session at, remembered one by one */

/*
 * What a database's writers have for its scheduler.  All under news_mutex.
 */
typedef struct DbOptNews
{
	int			count;
	uint64		types[DBOPT_NEWS_SIZE]; /* dbopt_news_hash() */
	bool		many;			/* more than fits: discover everything */
	bool		config;			/* handlers, sources, policies or pause
								 * changed */
	bool		objects;		/* tables, functions, schemas or roles changed */
	bool		settings;		/* of a role, or of the database */
	bool		orphans;		/* a session has gone that an earlier
								 * scheduler had started */
	bool		tables;			/* that may lack declared indexes: they are to
								 * be had at once */
} DbOptNews;

typedef enum DbOptSchedulerState
{
	DBOPT_SCHEDULER_STARTING,	/* registered; looking for the extension */
	DBOPT_SCHEDULER_RUNNING,	/* the extension is there */
	DBOPT_SCHEDULER_ABSENT,		/* left for good: the extension is not there */
	DBOPT_SCHEDULER_REFUSED,	/* left until the extension changes: its
								 * version is not known to the library */
	DBOPT_SCHEDULER_GONE		/* ended otherwise: to be started again */
} DbOptSchedulerState;

/*
 * What has happened to a database's sessions, counted since its slot was given
 * out: a session is acquired for a job and released after it, created and
 * destroyed.
 */
typedef enum DbOptPoolEvent
{
	DBOPT_POOL_ACQUIRE_REQUEST,
	DBOPT_POOL_ACQUIRE_SUCCESS,
	DBOPT_POOL_ACQUIRE_FAIL,
	DBOPT_POOL_RELEASE,
	DBOPT_POOL_CREATE_REQUEST,
	DBOPT_POOL_CREATE_SUCCESS,
	DBOPT_POOL_CREATE_FAIL,
	DBOPT_POOL_DESTROY_REQUEST,
	DBOPT_POOL_DESTROY_SUCCESS,
	DBOPT_POOL_DESTROY_FAIL,	/* it did not go in time */
	DBOPT_POOL_ERROR,			/* it died at work */
	DBOPT_POOL_EVENTS			/* how many */
} DbOptPoolEvent;

/*
 * After an unclean end: has what may have caused it been run?
 */
typedef enum DbOptProbation
{
	DBOPT_PROBATION_OVER,
	DBOPT_PROBATION_AHEAD,		/* the suspects have not been marked yet */
	DBOPT_PROBATION_ON			/* they are, and are being run */
} DbOptProbation;

/*
 * A database that may have the extension.  The slot belongs to the launcher,
 * which keeps it while it knows that the extension is there, and moves the
 * generation for each scheduler that it starts.
 */
typedef struct DbOptDatabase
{
	/* Under dbopt_shared->lock. */
	Oid			dboid;			/* InvalidOid: free */
	uint32		generation;
	DbOptSchedulerState state;
	pid_t		scheduler_pid;	/* 0: none is running */
	int			scheduler_procno;
	bool		held_down;		/* the scheduler was ended for a hold */
	NameData	refused;		/* the version that it last said it does not
								 * know; empty: none */
	TimestampTz started_at;
	TimestampTz missing_since;	/* while none is running */
	DbOptHistogram acquire_times;	/* that callers waited for the session
									 * which then ran their SQL */
	uint64		acquire_total;	/* of these, microseconds */
	DbOptHistogram create_times;	/* from asking for a session until it was
									 * ready */
	uint64		create_total;	/* of these, microseconds */

	/* Atomic. */
	pg_atomic_uint32 wants_session; /* found no free slot in the cluster, for
									 * a session or the scheduler */
	pg_atomic_uint32 reclaim;	/* another database wants a session slot */
	pg_atomic_uint32 wants_handler; /* some handler, or the breaker
									 * "database", has no slot */
	pg_atomic_uint64 news_taken;	/* how often the scheduler took news, and
									 * 1: never 0, which looked_at has first */
	pg_atomic_uint32 active;	/* jobs assigned and not finished */
	pg_atomic_uint32 pending;	/* cursors, chunks and due retries known to
								 * the scheduler and not yet assigned */
	pg_atomic_uint32 waiting;	/* of these, kept waiting by the pool alone */
	pg_atomic_uint64 pool_events[DBOPT_POOL_EVENTS];
	pg_atomic_uint32 probation; /* DbOptProbation */
	pg_atomic_uint32 health_told;	/* DbOptHealth: by the last alert */
	pg_atomic_uint32 direct_calls;	/* between rounds, where nobody waits:
									 * callers may take idle sessions by
									 * themselves while fewer have one; 0:
									 * none may.  Opened by the scheduler,
									 * closed by it under dbopt_shared->lock */
	pg_atomic_uint32 lines_left_out;	/* some handler's budget says so */
	pg_atomic_uint64 rounds;	/* rounds the scheduler has finished, so that
								 * dbopt_drain() can wait for one */

	/* Under news_mutex. */
	slock_t		news_mutex;
	DbOptNews	news;
	uint64		unwanted[DBOPT_UNWANTED_TYPES]; /* each where its hash says,
												 * 0: none */

	/* Under minutes_mutex; see history.h. */
	slock_t		minutes_mutex;
	Oid			minutes_dboid;	/* whose they are */
	DbOptDatabaseMinutes minutes;
} DbOptDatabase;

typedef enum DbOptSessionState
{
	DBOPT_SESSION_FREE,			/* the slot is not in use */
	DBOPT_SESSION_STARTING,		/* registered, not yet connected */
	DBOPT_SESSION_IDLE,
	DBOPT_SESSION_BUSY,
	DBOPT_SESSION_STOPPING		/* told to go */
} DbOptSessionState;

/*
 * A pool session.  Written by its scheduler while STARTING, IDLE or STOPPING,
 * by the session while BUSY; all under dbopt_shared->lock but for the atomics.
 */
typedef struct DbOptSession
{
	Oid			dboid;			/* InvalidOid: free */
	Oid			roleid;
	uint32		generation;
	int			database;		/* slot number and generation of the scheduler
								 * that it works for */
	uint32		database_generation;
	DbOptSessionState state;
	pid_t		pid;			/* 0 until it has attached */
	int			procno;
	TimestampTz since;			/* of this state */
	uint64		jobs_done;
	int			cpu;			/* that it ended its last job on; -1: unknown */
	DbOptJob	job;
	DbOptJobResult result;
	bool		dismissed;		/* builds an index, and dbopt is being dropped */
	bool		parted;			/* and needs nothing of dbopt's any longer */
	bool		quiet;			/* the log has said already that no session of
								 * this role can be created */

	/* Set by the session alone, read by its exit callback: what it holds. */
	int			handler_slot;	/* index, when admission.granted > 0 */
	uint32		handler_generation;
	DbOptAdmission admission;
	int			in_flight;		/* events counted in its handler's in_flight */

	/* Atomic. */
	pg_atomic_uint32 unseen;	/* is idle, with a result that its scheduler
								 * has to read first: set under the lock */
	pg_atomic_uint32 more;		/* the session has seen more than it can take:
								 * another one may help */
	pg_atomic_uint32 yield;		/* the scheduler wants it back after the
								 * present chunk */
	pg_atomic_uint64 looked_at; /* news_taken when it last looked for events:
								 * it has seen all news up to then */
	pg_atomic_uint64 cancel;	/* the call, or the hash of the declaration
								 * whose index is built, that a SIGINT is
								 * meant for; 0: any job */

	/* Written by the session as it ends. */
	char		error_code[6];	/* why it could not be created; "": unknown */
	char		error[DBOPT_ERROR_LENGTH];
} DbOptSession;

typedef enum DbOptCallerState
{
	DBOPT_CALLER_NONE,			/* the slot is not in use */
	DBOPT_CALLER_WAITING,		/* for a session */
	DBOPT_CALLER_SERVED,		/* a session has its statements */
	DBOPT_CALLER_RETURNED,		/* that session has gone without a look at
								 * them */
	DBOPT_CALLER_LOST			/* it has gone, and may have run them */
} DbOptCallerState;

/*
 * A backend that has SQL run in a pool session: one slot for each process, by
 * its number.  All under dbopt_shared->lock.
 */
typedef struct DbOptCaller
{
	DbOptCallerState state;
	Oid			dboid;
	Oid			roleid;
	int			role_limit;		/* sessions for this role's callers; -1: no
								 * limit of its own */
	uint64		ticket;			/* of this call: in the order of arrival */
	TimestampTz since;			/* waiting */
	pid_t		pid;
	dsm_handle	segment;
	int			session;		/* slot and generation of the session that
								 * serves it */
	uint32		session_generation;
	bool		awake;			/* as in the session's job */
	bool		victim;			/* is about to give up, to end a deadlock */
	char		error_code[6];	/* why no session could be created; "": none
								 * has failed */
	char		error[DBOPT_ERROR_LENGTH];
} DbOptCaller;

typedef struct DbOptCounters
{
	uint64		attempts;		/* events tried, first tries and retries */
	uint64		successes;
	uint64		failures;
	uint64		retries;		/* attempts that were not the first */
	uint64		successes_after_retry;
	uint64		dead_letters;
	uint64		rejected;
	int64		total_time;		/* microseconds in the handler */
	int64		max_time;		/* microseconds */
	DbOptHistogram times;
} DbOptCounters;

/*
 * What lines in the server log are about: see log_line.h.
 */
typedef enum DbOptLogKind
{
	DBOPT_LOG_EVENT_RETRY,		/* an event has failed and is tried again */
	DBOPT_LOG_EVENT_GIVE_UP,
	DBOPT_LOG_EVENT_NOTE,		/* which could not be noted beside it */
	DBOPT_LOG_SQL_RETRY,		/* the same of a caller's SQL */
	DBOPT_LOG_SQL_GIVE_UP,
	DBOPT_LOG_HANDLER,			/* it is broken */
	DBOPT_LOG_JOB,				/* a session's job has failed */
	DBOPT_LOG_BREAKER_CLOSED,	/* these are as many kinds as states, so that
								 * trials that fail do not use up the lines
								 * about what matters more */
	DBOPT_LOG_BREAKER_TRIAL,
	DBOPT_LOG_BREAKER_OPENED,
	DBOPT_LOG_POOL,				/* trouble with sessions */
	DBOPT_LOG_INDEX,			/* built, failed, given up */
	DBOPT_LOG_KINDS				/* how many */
} DbOptLogKind;

/* Lines of one kind in the present period, and those that it had none for. */
typedef struct DbOptLogBudget
{
	TimestampTz since;
	int			lines;
	uint64		left_out;		/* and not told yet */
	uint64		left_out_before;	/* the same, in periods that are over */
} DbOptLogBudget;

/*
 * An event that a handler was called for alone when it ended its session.
 */
typedef struct DbOptDeparture
{
	TimestampTz at;				/* 0: none */
	int64		position;
	uint64		key;			/* a hash */
	bool		starved;		/* for want of memory */
} DbOptDeparture;

/*
 * A registered handler, or with handler_id 0 the breaker "database".
 */
typedef struct DbOptHandlerState
{
	/* Under dbopt_shared->lock. */
	Oid			dboid;			/* InvalidOid: free */
	Oid			extension;		/* whose handler it is: ids begin anew with
								 * each; InvalidOid: not known, from version
								 * 1.0 */
	int32		handler_id;
	uint32		generation;
	NameData	name;

	/* Atomic. */
	pg_atomic_uint64 next_retry_at; /* TimestampTz of its first retry;
									 * PG_INT64_MAX: none */
	pg_atomic_uint32 in_flight; /* events */
	pg_atomic_uint32 stalled_by;	/* gets no jobs until that database has
									 * run its suspects: slot + 1; 0: none */
	pg_atomic_uint32 excused_by;	/* was let go by it since: it will not be
									 * again */

	/* Under mutex. */
	slock_t		mutex;
	DbOptBreakerConfig breaker_config;
	DbOptBreaker breaker;
	DbOptBreakerLog breaker_log;
	DbOptCounters counters;
	DbOptHandlerMinutes minutes;	/* not part of the counters:
									 * dbopt_reset_stats() leaves them */
	double		failure_rate;	/* recent, 0..1; for adaptive delays */
	double		mean_time;		/* recent, microseconds; sizes the chunks */
	char		last_error_code[6];
	char		last_error[DBOPT_ERROR_LENGTH];
	TimestampTz last_error_at;
	TimestampTz last_success_at;
	TimestampTz stats_since;
	DbOptLogBudget log_budgets[DBOPT_LOG_KINDS];
	TimestampTz departed_at;	/* it has ended a session; 0: never */
	DbOptDeparture departures[DBOPT_DEPARTURES];
} DbOptHandlerState;

/*
 * Which databases the launcher should look at.  All under launcher_mutex.
 */
typedef struct DbOptLauncherNews
{
	int			count;
	Oid			dboids[DBOPT_LAUNCHER_NEWS_SIZE];
	bool		many;			/* more than fits: look at all of them */
} DbOptLauncherNews;

/*
 * A lease on the absence of workers: none starts in the database until it is
 * released or over.
 */
typedef struct DbOptHold
{
	Oid			dboid;			/* InvalidOid: free */
	pid_t		pid;			/* of the backend that asked */
	TimestampTz until;
} DbOptHold;

/*
 * What a prepared transaction has noted.
 */
typedef struct DbOptPrepared
{
	Oid			dboid;			/* InvalidOid: free */
	uint64		gid;			/* dbopt_prepared_hash(); 0: unknown, as no
								 * statement has prepared it */
	TransactionId xid;
	int			ntypes;
	uint64		types[DBOPT_NOTED_TYPES];
	bool		many;
	bool		config;
	bool		objects;
	bool		tables;
	bool		roles;			/* these two concern every database */
	bool		settings;
	bool		launcher;		/* it may bring or take the extension */
} DbOptPrepared;

typedef struct DbOptShared
{
	/* Constant after start. */
	LWLock	   *lock;
	int			max_sessions;
	int			max_handlers;
	int			max_prepared;
	int			max_callers;
	int			cpus;			/* of the machine */
	bool		unclean_start;	/* the last end left no mark, or it was a
								 * primary's that this server stood by */
	int64		incarnation;	/* drawn at random at each start */
	TimestampTz started_at;		/* also after a crash: from then on is known
								 * what is counted here */

	/* Under lock. */
	pid_t		launcher_pid;
	int			launcher_procno;
	TimestampTz launcher_left_at;	/* while none is running; 0: there was
									 * none */
	DbOptHold	holds[DBOPT_MAX_HOLDS];
	int			solo_owner;		/* the database whose scheduler runs suspects:
								 * slot + 1; 0: none.  Only it may assign jobs
								 * but callers' SQL */
	uint64		last_ticket;	/* given to a caller */

	/* Atomic. */
	pg_atomic_uint32 probation; /* some database is on probation: nothing but
								 * suspects is run in the cluster */
	pg_atomic_uint32 callers;	/* that wait for a session */

	/* Its own protection: broadcast whenever a worker has gone. */
	ConditionVariable worker_gone;

	/* Under launcher_mutex. */
	slock_t		launcher_mutex;
	DbOptLauncherNews launcher_news;

	/* Under log_mutex: of lines that no handler's slot counts. */
	slock_t		log_mutex;
	DbOptLogBudget log_budgets[DBOPT_LOG_KINDS];

	DbOptDatabase databases[DBOPT_MAX_DATABASES];

	/*
	 * Behind this struct: DbOptSession[max_sessions],
	 * DbOptHandlerState[max_handlers], and under lock
	 * DbOptPrepared[max_prepared] and DbOptCaller[max_callers].
	 */
} DbOptShared;

extern DbOptShared *dbopt_shared;	/* NULL: not preloaded */

extern void dbopt_shmem_hooks_install(void);
extern DbOptDatabase *dbopt_database_slot(int number);
extern DbOptDatabase *dbopt_database_find(Oid dboid);
extern DbOptSession *dbopt_session_slot(int number);
extern DbOptHandlerState *dbopt_handler_slot(int number);
extern DbOptPrepared *dbopt_prepared_slot(int number);
extern DbOptCaller *dbopt_caller_slot(int number);

/* Sets the latch of a process by its number; harmless if it has gone. */
extern void dbopt_process_wake(int procno);

/* Raises 55000 with a hint when the library is not preloaded. */
extern void dbopt_require_preload(void);

#endif							/* DBOPT_SHMEM_H */
