/*
 * schedule_turns.c
 *		In which order candidates come, and that each of a lane's has its turn.
 *
 * Run by the scheduler alone, in its own memory; no lock.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "engine/schedule.h"

/*
 * A session works this long before it is asked to give way to other work of
 * the same handler.
 */
#define TURN_US		(100 * 1000)

static int
compare_candidates(const void *a, const void *b)
{
	const DbOptCandidate *left = a;
	const DbOptCandidate *right = b;

	if (left->first != right->first)
		return left->first ? -1 : 1;
	if (left->priority != right->priority)
		return left->priority > right->priority ? -1 : 1;
	if (left->since != right->since)
		return left->since < right->since ? -1 : 1;
	return 0;
}

/*
 * Sorts the candidates from "first" on, most urgent first.
 */
void
dbopt_candidates_sort(DbOptCandidates *candidates, int first)
{
	qsort(candidates->items + first, candidates->count - first,
		  sizeof(DbOptCandidate), compare_candidates);
}

/*
 * Something of this lane waits while its sessions are at other work of it,
 * which may never end: the one longest at work is asked to give way, when it
 * has had its turn.
 */
static void
ask_for_turn(const DbOptLane *lane, DbOptCandidates *candidates,
			 TimestampTz now)
{
	DbOptMember *longest = NULL;

	for (int i = 0; i < dbopt_crew_size(); i++)
	{
		DbOptMember *member = dbopt_crew_member(i);

		if (member->state != DBOPT_SESSION_BUSY ||
			member->job.handler_id != lane->handler_id)
			continue;
		if (member->yield)
			return;
		if (longest == NULL || member->since < longest->since)
			longest = member;
	}
	if (longest == NULL)
		return;
	if (longest->since + TURN_US <= now)
		dbopt_crew_ask_to_yield(longest);
	else
		candidates->next = Min(candidates->next, longest->since + TURN_US);
}

/*
 * Of a lane's candidates, those from "first" on, keeps as many as there is
 * room for, the ones that have waited longest.
 */
void
dbopt_candidates_limit(DbOptCandidates *candidates, int first, int room,
					   const DbOptLane *lane, TimestampTz now)
{
	room = Max(room, 0);
	if (candidates->count - first <= room)
		return;
	dbopt_candidates_sort(candidates, first);
	for (int i = first + room; i < candidates->count; i++)
		if (!candidates->items[i].helper)
		{
			ask_for_turn(lane, candidates, now);
			break;
		}
	candidates->count = first + room;
}
