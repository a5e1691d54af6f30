/*
 * isolation.c
 *		Isolation levels by their names.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/arguments.h"
#include "api/isolation.h"
#include "utils/builtins.h"

#define LEVELS_HINT \
	"Isolation levels are serializable, repeatable read, read committed and read uncommitted."

typedef struct Isolation
{
	const char *name;
	int			level;
} Isolation;

static const Isolation isolations[] = {
	{"serializable", XACT_SERIALIZABLE},
	{"repeatable read", XACT_REPEATABLE_READ},
	{"read committed", XACT_READ_COMMITTED},
	{"read uncommitted", XACT_READ_UNCOMMITTED}
};

int
dbopt_isolation_argument(FunctionCallInfo fcinfo, int number)
{
	char	   *name;

	dbopt_argument_require(fcinfo, number, "isolation", LEVELS_HINT);
	name = text_to_cstring(PG_GETARG_TEXT_PP(number));
	for (int i = 0; i < lengthof(isolations); i++)
		if (pg_strcasecmp(name, isolations[i].name) == 0)
			return isolations[i].level;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("isolation level \"%s\" does not exist", name),
			 errhint(LEVELS_HINT)));
	return -1;
}
