/*
 * spoil.c
 *		A setting that cannot be taken back, for tests in test/t.
 *
 * Run by pool sessions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(spoil_setting);

static int	spoiled = 0;

static void
fail_to_forget(int newval, void *extra)
{
	if (spoiled != 0 && newval == 0)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('A', 'B', '1', '2', '3')),
				 errmsg("failed in C")));
}

/* spoil_setting() RETURNS void: makes that setting, once in a session. */
Datum
spoil_setting(PG_FUNCTION_ARGS)
{
	DefineCustomIntVariable("dbopt_test.spoiled", "Cannot be reset.", NULL,
							&spoiled, 0, 0, 1, PGC_USERSET, 0,
							NULL, fail_to_forget, NULL);
	SetConfigOption("dbopt_test.spoiled", "1", PGC_USERSET, PGC_S_SESSION);
	PG_RETURN_VOID();
}
