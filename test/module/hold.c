/*
 * hold.c
 *		A lock that only sessions of dbopt take, for tests in test/specs.
 *
 * Run by clients, who keep it until their transaction ends.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/lmgr.h"

PG_FUNCTION_INFO_V1(hold_object);

/* hold_object(class regclass, id int): locks it as a hand-out locks a cursor. */
Datum
hold_object(PG_FUNCTION_ARGS)
{
	LockDatabaseObject(PG_GETARG_OID(0), PG_GETARG_INT32(1), 0, ExclusiveLock);
	PG_RETURN_VOID();
}
