/*
 * departure.c
 *		Handlers that end their own session: what is noted of it.
 *
 * Run by pool sessions, and by schedulers, which ask.  The notes are under the
 * spinlock of the handler's slot.  Keys are kept as hashes: with the position
 * beside it, no two events of a handler are likely to share one.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "state/departure.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

/* A note that nobody has taken is worth nothing after this long. */
#define RECENT_US		(60 * USECS_PER_SEC)

/*
 * What the session's transaction has called a handler for; or the one before,
 * until it is written down that its commit failed.
 */
typedef struct Present
{
	int			slot;
	uint32		generation;
	int			calls;
	bool		named;			/* the only one of them, by this: */
	int64		position;
	uint64		key;
	bool		starved;
} Present;

static Present present = {0};

static uint64
hash_key(const char *key)
{
	return hash_bytes_extended((const unsigned char *) key, strlen(key), 0);
}

void
dbopt_departure_begin(void)
{
	memset(&present, 0, sizeof(present));
}

void
dbopt_departure_calling(int slot)
{
	present.slot = slot;
	if (slot >= 0)
		present.generation = dbopt_handler_slot(slot)->generation;
	present.calls++;
}

void
dbopt_departure_calling_for(int64 position, const char *key)
{
	dbopt_departure_begin();
	present.named = true;
	present.position = position;
	present.key = hash_key(key);
}

/* The oldest note, or the one of the same event, makes room. */
static DbOptDeparture *
find_room(DbOptHandlerState *state)
{
	DbOptDeparture *room = &state->departures[0];

	for (int i = 0; i < DBOPT_DEPARTURES; i++)
	{
		DbOptDeparture *note = &state->departures[i];

		if (note->at != 0 && note->position == present.position &&
			note->key == present.key)
			return note;
		if (note->at < room->at)
			room = note;
	}
	return room;
}

bool
dbopt_departure_note(void)
{
	TimestampTz now = GetCurrentTimestamp();
	DbOptHandlerState *state;

	if (present.calls == 0)
		return false;
	if (present.slot < 0)
		return true;
	state = dbopt_handler_slot(present.slot);
	if (state->generation != present.generation)
		return true;
	SpinLockAcquire(&state->mutex);
	state->departed_at = now;
	if (present.calls == 1 && present.named)
	{
		DbOptDeparture *note = find_room(state);

		note->at = now;
		note->position = present.position;
		note->key = present.key;
		note->starved = present.starved;
	}
	SpinLockRelease(&state->mutex);
	return true;
}

void
dbopt_departure_starved(void)
{
	present.starved = true;
	(void) dbopt_departure_note();
	dbopt_departure_begin();
}

bool
dbopt_departure_is_recent(int slot)
{
	DbOptHandlerState *state;
	TimestampTz at;

	if (slot < 0 || dbopt_shared == NULL)
		return false;
	state = dbopt_handler_slot(slot);
	SpinLockAcquire(&state->mutex);
	at = state->departed_at;
	SpinLockRelease(&state->mutex);
	return at != 0 && GetCurrentTimestamp() < at + RECENT_US;
}

bool
dbopt_departure_take(int slot, int64 position, const char *key, bool *starved)
{
	TimestampTz since = GetCurrentTimestamp() - RECENT_US;
	uint64		hash = hash_key(key);
	DbOptHandlerState *state;
	bool		found = false;

	if (slot < 0 || dbopt_shared == NULL)
		return false;
	state = dbopt_handler_slot(slot);
	SpinLockAcquire(&state->mutex);
	for (int i = 0; i < DBOPT_DEPARTURES && !found; i++)
	{
		DbOptDeparture *note = &state->departures[i];

		found = note->at > since && note->position == position &&
			note->key == hash;
		if (found)
		{
			*starved = note->starved;
			note->at = 0;
		}
	}
	SpinLockRelease(&state->mutex);
	return found;
}
