/*
 * probation_list.c
 *		The suspects of a crash, and when each of them may be run.
 *
 * Run by the scheduler alone, in its own memory.  The list is read anew when
 * there is a doubt (suspect.c), in a transaction of its own; what is known of
 * suspects that have not changed since is kept.
 */
#include "postgres.h"

#include "engine/config.h"
#include "engine/probation.h"
#include "engine/probation_list.h"
#include "policy/backoff.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The first run after a crash waits for its policy's delay, up to this. */
#define FIRST_DELAY_US	USECS_PER_SEC

/*
 * What gets nowhere waits, and longer each time, so that other suspects come
 * first and nothing is held up for it.
 */
#define FIRST_VAIN_US	USECS_PER_SEC
#define MAX_VAIN_US		(60 * USECS_PER_SEC)
#define MAX_VAIN		7		/* then it waits for MAX_VAIN_US */

static List *suspects = NIL;	/* of DbOptSuspects *, in a context of its own */
static MemoryContext suspects_context = NULL;
static bool doubt = true;
static TimestampTz delay_from = 0;
static DbOptSuspects sent;		/* the last ones that a session was sent for */
static bool ended = false;		/* it, since the suspects were read, */
static TimestampTz failed_until = 0;	/* with a failure that lasts so long */

List *
dbopt_probation_suspects(void)
{
	return suspects;
}

void
dbopt_probation_doubt(void)
{
	doubt = true;
}

void
dbopt_probation_delay_from(TimestampTz at)
{
	delay_from = at;
}

void
dbopt_probation_sent(const DbOptSuspects *entry)
{
	sent = *entry;
}

void
dbopt_probation_ended(TimestampTz until)
{
	doubt = true;
	ended = true;
	failed_until = until;
}

int32
dbopt_probation_handler(const DbOptSuspects *entry)
{
	DbOptTrack *track;

	if (entry->cursor_id == 0)
		return entry->handler_id;
	track = dbopt_track_find(entry->cursor_id);
	return track == NULL ? 0 : track->handler_id;
}

/* What has just crashed the server is not run again at once. */
static void
delay(DbOptSuspects *entry, const DbOptHandler *handler)
{
	int64		after;

	if (delay_from == 0)
		return;
	after = dbopt_backoff_base(&handler->policy->backoff, entry->suspicion);
	if (entry->suspicion == DBOPT_SUSPECT_GROUP)
		after = Min(after, FIRST_DELAY_US);
	entry->due_at = Max(entry->due_at, delay_from + after);
}

static bool
is_same(const DbOptSuspects *one, const DbOptSuspects *other)
{
	return one->handler_id == other->handler_id &&
		one->cursor_id == other->cursor_id && one->seq == other->seq &&
		one->suspicion == other->suspicion;
}

/* As these suspects were when they were read last; NULL: they are new. */
static const DbOptSuspects *
find_known(const DbOptSuspects *entry)
{
	ListCell   *cell;

	foreach(cell, suspects)
	{
		if (is_same(lfirst(cell), entry))
			return lfirst(cell);
	}
	return NULL;
}

/*
 * Has a session been sent for these, and nothing has changed?  Retries of an
 * ordered handler may wait for others that are not due, and rows be locked.
 */
static void
put_off_vain(DbOptSuspects *entry, TimestampTz now)
{
	const DbOptSuspects *known = find_known(entry);
	bool		sent_for = ended && is_same(entry, &sent);

	if (known != NULL && known->count == entry->count &&
		known->retry_at == entry->retry_at)
	{
		entry->vain = Min(known->vain + (sent_for ? 1 : 0), MAX_VAIN);
		entry->not_before = known->not_before;
		if (sent_for)
			entry->not_before = now + Min(FIRST_VAIN_US << (entry->vain - 1),
										  MAX_VAIN_US);
	}
	if (sent_for)
		entry->not_before = Max(entry->not_before, failed_until);
	entry->due_at = Max(entry->due_at, entry->not_before);
}

static void
complete(DbOptSuspects *entry, const DbOptConfig *config, TimestampTz now)
{
	const DbOptHandler *handler = dbopt_config_handler(config,
													   dbopt_probation_handler(entry));

	if (handler == NULL)
		return;
	entry->in_group = entry->suspicion == DBOPT_SUSPECT_GROUP &&
		handler->policy->max_attempts >= DBOPT_CRASHES_WITH_GROUP;
	put_off_vain(entry, now);
	delay(entry, handler);
}

void
dbopt_probation_read(TimestampTz now)
{
	MemoryContext previous = CurrentMemoryContext;
	MemoryContext context;
	const DbOptConfig *config;
	List	   *loaded;
	ListCell   *cell;

	if (!doubt)
		return;
	doubt = false;
	context = AllocSetContextCreate(TopMemoryContext, "dbopt suspects",
									ALLOCSET_SMALL_SIZES);
	dbopt_probation_transaction_begin();
	config = dbopt_config_get();
	MemoryContextSwitchTo(context);
	loaded = dbopt_suspects_load();
	foreach(cell, loaded)
		complete(lfirst(cell), config, now);
	dbopt_probation_transaction_end();
	MemoryContextSwitchTo(previous);
	if (suspects_context != NULL)
		MemoryContextDelete(suspects_context);
	suspects_context = context;
	suspects = loaded;
	ended = false;
	failed_until = 0;
}
