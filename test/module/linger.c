/*
 * linger.c
 *		A commit that takes long, for tests in test/t.
 *
 * Run by clients.  Others see a transaction as committed before its backend has
 * told them of what it invalidates in their caches; here that takes as long as
 * the test wants.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(linger);

static char linger_until[MAXPGPATH];	/* "": not at all */

static void
linger_at_commit(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT || linger_until[0] == '\0')
		return;
	while (access(linger_until, F_OK) != 0)
		pg_usleep(1000);
	linger_until[0] = '\0';
}

/* Has the transaction's commit wait for a file of this name. */
Datum
linger(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(linger_at_commit, NULL);
	registered = true;
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(0), linger_until,
						   sizeof(linger_until));
	PG_RETURN_VOID();
}
