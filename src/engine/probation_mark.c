/*
 * probation_mark.c
 *		After an unclean end: marking everything that may have caused it.
 *
 * Run by the scheduler alone, before it reads anything else, in transactions
 * of its own: what a lost hand-out may have held is handed out anew, so many
 * cursors at a time, and then all suspects are marked at once (suspect.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "engine/config.h"
#include "engine/exec.h"
#include "engine/probation.h"
#include "engine/suspect.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Cursors that are locked in one transaction. */
#define CURSORS_AT_ONCE	50

void
dbopt_probation_transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
dbopt_probation_transaction_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

typedef struct HandOut
{
	const DbOptConfig *config;
	const DbOptCursor *cursor;
	int			sessions;
} HandOut;

static void
hand_out_cursor(void *arg)
{
	HandOut    *args = arg;

	dbopt_suspects_hand_out(args->config, args->cursor, args->sessions);
}

/* What fails here fails for a session, too, which will say so. */
static void
try_hand_out(const DbOptConfig *config, const DbOptCursor *cursor,
			 int sessions)
{
	HandOut		args = {config, cursor, sessions};
	DbOptFailure failure;

	(void) dbopt_exec_try(hand_out_cursor, &args, 0, &failure);
}

/*
 * Hands out anew what hand-outs that were lost may have held.  None overtakes a
 * restore, nor dbopt_pause().
 */
static void
hand_out(int sessions)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "dbopt probation",
												  ALLOCSET_DEFAULT_SIZES);
	List	   *cursors;
	int			done = 0;

	dbopt_probation_transaction_begin();
	MemoryContextSwitchTo(context);
	cursors = dbopt_config_get()->paused ? NIL : dbopt_cursors_load();
	dbopt_probation_transaction_end();
	while (done < list_length(cursors))
	{
		const DbOptConfig *config;

		dbopt_probation_transaction_begin();
		config = dbopt_config_get();
		for (int i = 0; i < CURSORS_AT_ONCE && done < list_length(cursors); i++)
			try_hand_out(config, list_nth(cursors, done++), sessions);
		dbopt_probation_transaction_end();
	}
	MemoryContextDelete(context);
}

void
dbopt_probation_mark(int sessions)
{
	hand_out(sessions);
	dbopt_probation_transaction_begin();
	if (!dbopt_config_get()->foreign_identity)
		dbopt_suspects_mark(sessions);
	dbopt_probation_transaction_end();
}
