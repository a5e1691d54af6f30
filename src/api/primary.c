/*
 * primary.c
 *		Functions that a standby cannot run.
 *
 * What changes rows would fail there by itself, at some statement within; what
 * changes only shared memory, or finds nothing to do, would seem to have worked.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/primary.h"
#include "utils/lsyscache.h"

void
dbopt_require_primary(FunctionCallInfo fcinfo)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() during recovery",
						get_func_name(fcinfo->flinfo->fn_oid)),
				 errhint("This server is a standby: call it on the primary.")));
}
