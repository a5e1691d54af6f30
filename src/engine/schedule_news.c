/*
 * schedule_news.c
 *		What the scheduler makes of the news.
 *
 * Run by the scheduler alone.  News of known event types only cost no look at
 * the database.  A type that is not known is looked for in the logs: it gets
 * its cursors, or turns out to be one that no handler wants.  When it is in no
 * log it stays unknown: its event was rolled back with a savepoint, or has been
 * deleted, and the next one may stay.  The look after one that was in vain
 * waits a while, so that such events do not keep the scheduler busy.
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/alert.h"
#include "engine/crew.h"
#include "engine/exec.h"
#include "engine/index_schedule.h"
#include "engine/probation.h"
#include "engine/schedule.h"
#include "pgstat.h"
#include "state/news.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOCKED_REST_US	USECS_PER_SEC
#define REST_FACTOR		20		/* vain looks take at most one part in so many */
#define LONGEST_REST_US (10 * USECS_PER_SEC)

static TimestampTz discover_at = 0; /* when to look for event types */
static TimestampTz rest_until = 0;	/* not before, for news of unknown types */
static bool undiscovered = false;	/* there are news to be looked for */

/*
 * Applies the news to what is known, and says what has to be read.
 */
static DbOptRefresh
apply_news(DbOptDatabase *database, const DbOptNews *news, uint64 number,
		   TimestampTz now)
{
	DbOptRefresh what = {0};
	bool		unknown = news->many;
	DbOptTrack *track;
	int			i;

	for (i = 0; i < news->count; i++)
	{
		switch (dbopt_type_want(news->types[i], number, now))
		{
			case DBOPT_INTEREST_UNKNOWN:
				unknown = true;
				break;
			case DBOPT_INTEREST_NONE:
				dbopt_news_unwant(database, news->types[i]);
				break;
			case DBOPT_INTEREST_SOME:
				break;
		}
	}
	if (news->many)
		for (track = dbopt_track_next(true); track != NULL;
			 track = dbopt_track_next(false))
			dbopt_track_want(track, number, now);
	if (news->orphans)
	{
		dbopt_tracks_doubt(number, now);
		dbopt_probation_doubt();
	}
	if (unknown)
	{
		discover_at = Min(discover_at, Max(rest_until, now));
		undiscovered = true;
	}
	what.discover = news->config || discover_at <= now;
	what.lanes = news->config || news->orphans;
	what.objects = news->objects;
	return what;
}

/* False: the extension is not there. */
static bool
refresh(DbOptDatabase *database, DbOptRefresh *what, uint64 number,
		TimestampTz now)
{
	MemoryContext round_context = CurrentMemoryContext;
	bool		runs;

	dbopt_news_want_all(database);	/* before the snapshot */
	dbopt_exec_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "reading handlers and cursors");
	MemoryContextSwitchTo(round_context);

	runs = dbopt_schedule_refresh(what, number, now);

	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(round_context);
	return runs;
}

/*
 * The types that were found, and that no handler wants, are known as such from
 * now on: as many as can be remembered, and those of the news in any case.
 */
static void
ignore_unwanted(const DbOptNews *news, HTAB *unwanted)
{
	HASH_SEQ_STATUS scan;
	uint64	   *type;

	hash_seq_init(&scan, unwanted);
	while ((type = hash_seq_search(&scan)) != NULL)
		dbopt_type_ignore(*type);
	for (int i = 0; i < news->count; i++)
		if (hash_search(unwanted, &news->types[i], HASH_FIND, NULL) != NULL)
			dbopt_type_ignore(news->types[i]);
}

/* Says when to look for event types again. */
static void
plan_discovery(const DbOptRefresh *what, TimestampTz started, TimestampTz now)
{
	if (what->discover)
	{
		rest_until = now;
		if (undiscovered && what->created == 0)
			rest_until += Min(REST_FACTOR * Max(now - started, 0),
							  LONGEST_REST_US);
		undiscovered = what->passed_over;
		discover_at = DBOPT_NEVER;
	}
	if (what->incomplete)
		discover_at = Min(discover_at, now + LOCKED_REST_US);
}

bool
dbopt_schedule_take_news(DbOptDatabase *database, TimestampTz *now)
{
	DbOptNews	news;
	DbOptRefresh what;
	uint64		number;

	dbopt_news_take(database, &news);
	number = pg_atomic_read_u64(&database->news_taken);
	what = apply_news(database, &news, number, *now);
	if (news.settings)
		dbopt_crew_outdate(*now);
	what.chunks = dbopt_schedule_checks_due(*now);
	if (what.lanes)
		dbopt_probation_doubt();
	if (what.lanes || what.objects)
		dbopt_alert_doubt();
	if (news.tables)
		dbopt_index_schedule_survey(*now);
	what.indexes = news.config || dbopt_index_schedule_due(*now);
	if (what.lanes || what.discover || what.chunks || what.objects ||
		what.indexes)
	{
		TimestampTz started = GetCurrentTimestamp();

		if (!refresh(database, &what, number, *now))
			return false;
		*now = GetCurrentTimestamp();
		if (what.discover)
			ignore_unwanted(&news, what.unwanted);
		plan_discovery(&what, started, *now);
	}
	return true;
}

TimestampTz
dbopt_schedule_discover_at(void)
{
	return discover_at;
}

bool
dbopt_schedule_undiscovered(void)
{
	return undiscovered;
}
