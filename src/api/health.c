/*
 * health.c
 *		Is this database's delivery well?  SQL function.
 *
 * Run by whoever watches; engine/health.h has the checks.
 */
#include "postgres.h"

#include "engine/health.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dbopt_health);

/* dbopt_health() -> a row for each check, and "overall" */
Datum
dbopt_health(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, dbopt_health_look())
	{
		DbOptCheck *check = lfirst(cell);
		Datum		values[3];
		bool		nulls[3] = {0};

		values[0] = CStringGetTextDatum(check->name);
		values[1] = CStringGetTextDatum(dbopt_health_name(check->status));
		values[2] = CStringGetTextDatum(check->detail);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
