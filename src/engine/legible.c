/*
 * legible.c
 *		Names that every client can be sent.
 *
 * Run by every process.  A database's name is in the encoding of the one where
 * it was given, and any bytes may be a name in encoding SQL_ASCII: a client
 * that is sent what is not valid gets an error, or gives up on all that comes
 * with it.
 */
#include "postgres.h"

#include "engine/legible.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

const char *
dbopt_legible(const char *name)
{
	int			encoding = GetDatabaseEncoding();
	StringInfoData legible;

	if (encoding == PG_SQL_ASCII)
		encoding = PG_UTF8;
	if (pg_verify_mbstr(encoding, name, strlen(name), true))
		return name;

	initStringInfo(&legible);
	for (; *name != '\0'; name++)
	{
		if (IS_HIGHBIT_SET(*name))
			appendStringInfo(&legible, "\\x%02X", (unsigned char) *name);
		else
			appendStringInfoChar(&legible, *name);
	}
	return legible.data;
}
