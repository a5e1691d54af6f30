/*
 * crew.h
 *		A scheduler's sessions, as it sees them: starting, idle, at work,
 *		leaving.
 */
#ifndef DBOPT_CREW_H
#define DBOPT_CREW_H

#include "engine/worker.h"
#include "nodes/pg_list.h"
#include "state/shmem.h"

/* A session of this scheduler. */
typedef struct DbOptMember
{
	DbOptWorkerTarget target;	/* its slot */
	Oid			role;
	DbOptSessionState state;	/* as this scheduler last knew it */
	TimestampTz since;			/* of this state */
	BackgroundWorkerHandle *handle; /* while STARTING, else NULL */
	DbOptJob	job;			/* while BUSY */
	int			priority;		/* of its handler, while BUSY */
	bool		promoted;		/* works out of turn: schedule_promote.c */
	bool		yield;			/* has been asked to give way */
	bool		outdated;		/* to leave when it has no job */
	bool		overdue;		/* was ended: it took too long to connect, or
								 * to go */
} DbOptMember;

/* A role that sessions are started for. */
typedef struct DbOptCrewRole
{
	Oid			role;			/* hash key */
	int			alive;			/* sessions that are not leaving */
	int			starting;
	int			claimed;		/* starting ones that a candidate of this
								 * round waits for */
	int			waiting;		/* candidates without a session, this round */
	int			offered;		/* candidates of lanes, this round */
	int			calls;			/* sessions that run its callers' SQL */
	int			calls_offered;	/* of its callers as candidates, this round */
	bool		needed;			/* some handler runs as this role */
	bool		called;			/* its callers have had SQL run */
	int			failures;		/* to start a session, in a row */
	TimestampTz not_before;		/* of the next attempt */
	char		error_code[6];	/* of the last one; "": unknown */
	char		error[DBOPT_ERROR_LENGTH];
} DbOptCrewRole;

/* What a session has reported, or that it has gone in the middle of it. */
typedef struct DbOptReport
{
	DbOptJob	job;
	bool		lost;
	DbOptJobResult result;		/* unless lost */
} DbOptReport;

typedef enum DbOptCrewStart
{
	DBOPT_CREW_STARTED,
	DBOPT_CREW_FULL,			/* the database has all that it may have */
	DBOPT_CREW_NO_SLOT			/* none is free in the cluster */
} DbOptCrewStart;

extern void dbopt_crew_init(void);

/* Brings the picture up to date; DbOptReport * in the round's context. */
extern List *dbopt_crew_update(TimestampTz now);

extern int	dbopt_crew_size(void);
extern DbOptMember *dbopt_crew_member(int number);
extern int	dbopt_crew_alive(void); /* members that are not leaving */
extern bool dbopt_crew_outdated(void);	/* is one of them to leave soon? */
extern int	dbopt_crew_leaving(void);
extern int	dbopt_crew_busy(void);
extern int	dbopt_crew_calls(void); /* of these, with callers' SQL */
extern DbOptMember *dbopt_crew_idle(Oid role);
extern bool dbopt_crew_could_yield(const DbOptMember *member);
extern bool dbopt_crew_calling(const DbOptMember *member);	/* a caller's SQL */

/* Roles: crew_roles.c.  Cleared is what is counted anew in each round. */
extern void dbopt_crew_roles_init(void);
extern void dbopt_crew_roles_clear(TimestampTz now);
extern DbOptCrewRole *dbopt_crew_role(Oid role);
extern DbOptCrewRole *dbopt_crew_next_role(bool first);

/* The member, which is still STARTING, has ended: its role has to wait. */
extern void dbopt_crew_put_off(const DbOptMember *member, TimestampTz now);

extern bool dbopt_crew_assign(DbOptMember *member, const DbOptJob *job,
							  int priority, TimestampTz now);
extern void dbopt_crew_retire(DbOptMember *member, TimestampTz now);
extern void dbopt_crew_ask_to_yield(DbOptMember *member);
extern void dbopt_crew_outdate(TimestampTz now);
extern TimestampTz dbopt_crew_end_overdue(int create_timeout,
										  TimestampTz now);

/*
 * Starting sessions: crew_start.c.  "max" is the number that the database may
 * have.  For a warm one nothing is asked of others.
 */
extern void dbopt_crew_start_init(DbOptWorkerTarget database);
extern DbOptCrewStart dbopt_crew_start(DbOptCrewRole *role, int max,
									   TimestampTz now);
extern DbOptCrewStart dbopt_crew_start_warm(DbOptCrewRole *role, int max,
											TimestampTz now);
extern void dbopt_crew_all_started(void);
extern void dbopt_crew_add(DbOptCrewRole *role, DbOptWorkerTarget target,
						   BackgroundWorkerHandle *handle, TimestampTz now);

extern void dbopt_crew_count(DbOptPoolEvent event);

/* Logs trouble with a session of this role; "error_code" may be "". */
extern void dbopt_crew_log(const char *message, Oid role,
						   const char *error_code, int attempt, int64 delay);

/*
 * Sessions of an earlier scheduler that are still at work: for a handler (0:
 * builds), for callers, for anything else.
 */
extern void dbopt_crew_update_strangers(void);
extern int	dbopt_crew_strangers(int32 handler_id);
extern int	dbopt_crew_strangers_calling(void);
extern int	dbopt_crew_strangers_at_events(void);

/* Is a session at work for this handler, one of these or one of its own? */
extern bool dbopt_crew_works_for(int32 handler_id);

/*
 * Cancels the build of this index, if it is for the declaration with this hash;
 * also a session of an earlier scheduler's.
 */
extern void dbopt_crew_cancel_build(const char *index, uint64 declaration);

/* Those that were dismissed and drop what their index builds have left. */
extern int	dbopt_crew_leavers(void);

/* When to try again after DBOPT_CREW_NO_SLOT, unless woken before. */
extern TimestampTz dbopt_crew_retry_at(void);

/* The youngest news that a session at work on this cursor has seen. */
extern uint64 dbopt_crew_looked_at(int32 cursor_id);

/* Does this session see more work than it can take?  And forget that. */
extern bool dbopt_crew_wants_help(const DbOptMember *member);
extern void dbopt_crew_help_sent(const DbOptJob *job);

#endif							/* DBOPT_CREW_H */
