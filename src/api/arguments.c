/*
 * arguments.c
 *		Arguments of SQL functions.
 */
#include "postgres.h"

#include "api/arguments.h"

void
dbopt_argument_require(FunctionCallInfo fcinfo, int number, const char *name,
					   const char *hint)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("%s", hint)));
}
