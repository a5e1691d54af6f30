/*
 * schedule.h
 *		The scheduler's memory: which work there is, for which handler.
 *
 * A lane is a handler with the work that waits for it; a track is a cursor.
 * A track that a session should be sent to waits in the lane of the handler
 * that serves it, the one that has waited longest on top; after a failure it
 * is put off until its time has come.  So a round touches the lanes and what
 * it hands out, however many tracks there are.
 */
#ifndef DBOPT_SCHEDULE_H
#define DBOPT_SCHEDULE_H

#include "datatype/timestamp.h"
#include "engine/config.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "state/shmem.h"
#include "utils/hsearch.h"

/* So long work waits behind what comes before it, and then has its turn. */
#define DBOPT_TURN_WAIT_US		(1000 * 1000)

/* What is promoted comes before all handlers, and callers before that. */
#define DBOPT_PROMOTED_PRIORITY	(PG_INT32_MAX - 1)
#define DBOPT_MAX_PRIORITY		(PG_INT32_MAX - 2)

typedef struct DbOptLane
{
	int32		handler_id;		/* hash key */
	int32		source_id;
	const char *event_type;		/* valid while lanes and tracks are loaded */
	Oid			role;
	int			priority;
	int			max_concurrency;	/* 0: no limit of its own */
	bool		usable;			/* its function, role and table are there */
	bool		open;			/* usable and not paused */
	TimestampTz promoted_at;	/* last in vain */
	TimestampTz turn_at;		/* last with success */
	int			slot;			/* in shared memory, or -1 */
	int			running;		/* sessions at work for it */
	pairingheap ready;			/* tracks to send a session to */
	int			nready;
	TimestampTz retry_at;		/* of the first retry, where slot is -1 */
	bool		retry_behind;	/* a job left some that were due before */
	TimestampTz look_behind_at; /* for one that was locked; DBOPT_NEVER */
	TimestampTz retry_not_before;	/* after a failure */
	int			retry_failures; /* in a row */
	bool		seen;			/* by the present refresh */
} DbOptLane;

typedef enum DbOptTrackPlace
{
	DBOPT_TRACK_RESTING,		/* nobody has to be sent there */
	DBOPT_TRACK_READY,			/* in its lane */
	DBOPT_TRACK_PUT_OFF			/* until not_before */
} DbOptTrackPlace;

typedef struct DbOptTrack
{
	int32		cursor_id;		/* hash key */
	int32		handler_id;		/* who serves it now; 0: nobody */
	uint64		type;			/* dbopt_news_hash() */
	dlist_node	of_type;
	DbOptTrackPlace place;
	pairingheap_node in_place;
	bool		wanted;			/* there may be events to hand out */
	TimestampTz since;			/* when it became wanted or got chunks */
	uint64		since_news;		/* number of the news since then: the first */
	uint64		last_news;		/* and the last */
	dlist_head	chunks;			/* left over, of DbOptLeftover */
	bool		check_chunks;	/* there may be more of them */
	int			running;		/* sessions at work on it */
	TimestampTz not_before;		/* after a failure; 0: at any time */
	TimestampTz helped_at;		/* the round that has looked whether those at
								 * work need help */
	int			failures;		/* in a row */
	bool		seen;			/* by the present refresh */
} DbOptTrack;

/* A chunk that was handed out and whose session has gone. */
typedef struct DbOptLeftover
{
	dlist_node	node;
	int64		seq;
} DbOptLeftover;

typedef enum DbOptInterest
{
	DBOPT_INTEREST_UNKNOWN,		/* a type that has not been looked at */
	DBOPT_INTEREST_NONE,		/* no handler could run its events now */
	DBOPT_INTEREST_SOME
} DbOptInterest;

/* Something that a session could do now. */
typedef struct DbOptCandidate
{
	DbOptJob	job;
	Oid			role;
	int			priority;
	TimestampTz since;
	bool		promoted;		/* comes before others this time */
	bool		first;			/* before callers, too */
	bool		helper;			/* joins others at the same job */
	bool		due;			/* counted as such; no session has it yet */
} DbOptCandidate;

typedef struct DbOptCandidates
{
	int			count;
	int			size;
	DbOptCandidate *items;		/* most urgent first */
	int			due;			/* all that is due, also beyond limits; of a
								 * cursor that nobody is sent to now, its
								 * events and chunks count as one */
	int			waiting;		/* those left without a session by the pool */
	int			direct_calls;	/* how many may be served until the next round
								 * without the scheduler; 0: none */
	TimestampTz next;			/* when more may be due */
} DbOptCandidates;

/* schedule.c */
extern void dbopt_schedule_init(void);
extern DbOptLane *dbopt_lane_find(int32 handler_id);
extern DbOptLane *dbopt_lane_next(bool first);
extern bool dbopt_lanes_exist(void);
extern DbOptTrack *dbopt_track_find(int32 cursor_id);
extern DbOptTrack *dbopt_track_next(bool first);
extern DbOptLane *dbopt_lane_make(int32 handler_id);
extern void dbopt_lane_drop(DbOptLane *lane);
extern DbOptTrack *dbopt_track_make(int32 cursor_id, uint64 type);
extern void dbopt_track_drop(DbOptTrack *track);
extern void dbopt_track_serve(DbOptTrack *track, int32 handler_id);
extern void dbopt_track_want(DbOptTrack *track, uint64 news,
							 TimestampTz now);
extern void dbopt_track_add_chunk(DbOptTrack *track, int64 seq,
								  TimestampTz now);
extern void dbopt_track_remove_chunk(DbOptTrack *track, int64 seq);
extern void dbopt_track_set_running(DbOptTrack *track, int running);
extern void dbopt_track_rejoin(DbOptTrack *track, TimestampTz now);
extern void dbopt_track_put_off(DbOptTrack *track, TimestampTz until);
extern DbOptTrack *dbopt_lane_first(const DbOptLane *lane);
extern DbOptTrack *dbopt_lane_take(DbOptLane *lane);
extern void dbopt_lane_put_back(DbOptLane *lane, DbOptTrack *track);
extern TimestampTz dbopt_tracks_put_off_until(TimestampTz now);
extern void dbopt_track_doubt(DbOptTrack *track);
extern void dbopt_tracks_doubt(uint64 news, TimestampTz now);
extern void dbopt_tracks_trust(void);
extern bool dbopt_schedule_checks_due(TimestampTz now);

/* schedule_types.c */
extern void dbopt_types_init(void);
extern void dbopt_type_add(DbOptTrack *track);
extern void dbopt_type_remove(DbOptTrack *track);
extern DbOptInterest dbopt_type_want(uint64 type, uint64 news,
									 TimestampTz now);
extern void dbopt_type_ignore(uint64 type);
extern void dbopt_types_forget_ignored(void);

/* schedule_collect.c */
extern DbOptCandidates *dbopt_schedule_collect(int max, TimestampTz now);
extern bool dbopt_schedule_has_room(const DbOptJob *job, int max);

/* schedule_jobs.c */
extern void dbopt_schedule_assigned(const DbOptJob *job);
extern void dbopt_schedule_finished(const DbOptJob *job,
									const DbOptJobResult *result,
									TimestampTz now);
extern void dbopt_schedule_lost(const DbOptJob *job, TimestampTz now);
extern void dbopt_schedule_recount(void);
extern TimestampTz dbopt_lane_retries_due_at(const DbOptLane *lane);
extern TimestampTz dbopt_lane_retry_at(const DbOptLane *lane);
extern void dbopt_lane_set_retry(DbOptLane *lane, TimestampTz at);

extern DbOptCandidate *dbopt_candidates_add(DbOptCandidates *candidates,
											const DbOptJob *job, Oid role,
											int priority, TimestampTz since);

/* schedule_builds.c */
extern void dbopt_builds_load(const DbOptConfig *config, TimestampTz now);
extern void dbopt_builds_collect(DbOptCandidates *candidates, TimestampTz now);
extern bool dbopt_builds_running(void);
extern bool dbopt_builds_need_session(TimestampTz now);
extern void dbopt_builds_assigned(void);
extern void dbopt_builds_finished(const DbOptJob *job,
								  const DbOptJobResult *result,
								  TimestampTz now);

/* schedule_callers.c */
extern void dbopt_callers_collect(DbOptCandidates *candidates, int max);

/* schedule_turns.c */
extern void dbopt_candidates_sort(DbOptCandidates *candidates, int first);
extern void dbopt_candidates_limit(DbOptCandidates *candidates, int first,
								   int room, const DbOptLane *lane,
								   TimestampTz now);

/*
 * schedule_promote.c: in each round, of the lanes that have something to do,
 * some of which may be promoted.  The times are those to look again.
 */
extern void dbopt_promotion_begin(TimestampTz now);
extern TimestampTz dbopt_promotion_consider(DbOptLane *lane,
											TimestampTz since,
											TimestampTz now);
extern TimestampTz dbopt_promotion_decide(TimestampTz now);
extern bool dbopt_promotion_is(const DbOptLane *lane);

/* Does who is promoted come before callers, too? */
extern bool dbopt_promotion_passes_callers(void);

/* Its candidate has got a session; returns the priority of its own. */
extern int	dbopt_promotion_served(int32 handler_id, TimestampTz now);

/* schedule_news.c */

/* False: the extension is not there.  What was read may have taken time. */
extern bool dbopt_schedule_take_news(DbOptDatabase *database,
									 TimestampTz *now);

/* When to do so though there may be no news; DBOPT_NEVER. */
extern TimestampTz dbopt_schedule_discover_at(void);

/* Is it not known yet whether there are events that a handler wants? */
extern bool dbopt_schedule_undiscovered(void);

/* schedule_load.c */

/* What to read from the database. */
typedef struct DbOptRefresh
{
	bool		lanes;			/* handlers, cursors, retries */
	bool		discover;		/* and look for event types without a cursor */
	bool		objects;		/* what tables and handlers stand on */
	bool		chunks;			/* of the cursors that may have left some */
	bool		indexes;		/* that are to be built */

	/* Results: */
	HTAB	   *unwanted;		/* types that were found, but no handler
								 * wants: dbopt_news_hash() */
	int			created;		/* cursors */
	bool		passed_over;	/* an events table was not looked into */
	bool		incomplete;		/* that, or a row was locked: to be repeated */
} DbOptRefresh;

/* In a transaction.  False: the extension is not there. */
extern bool dbopt_schedule_refresh(DbOptRefresh *what, uint64 news,
								   TimestampTz now);

#endif							/* DBOPT_SCHEDULE_H */
