/*
 * ddl.c
 *		Statements that change a caller's table, run as the caller.
 *
 * Whoever attaches or creates an events table needs the rights for it: these
 * statements check them as if the caller had typed them.
 */
#include "postgres.h"

#include "api/ddl.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "storage/proc.h"
#include "utils/guc.h"

#define DDL_LOCK_TIMEOUT "3s"

static void
pin_setting(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
dbopt_ddl_begin(DbOptDdlScope *scope)
{
	scope->guc_level = NewGUCNestLevel();
	pin_setting("search_path", "pg_catalog, pg_temp");
	if (LockTimeout == 0)
		pin_setting("lock_timeout", DDL_LOCK_TIMEOUT);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

void
dbopt_ddl_end(const DbOptDdlScope *scope)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not disconnect from SPI");
	AtEOXact_GUC(false, scope->guc_level);
}

void
dbopt_ddl(const char *format,...)
{
	StringInfoData statement;
	int			result;

	initStringInfo(&statement);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&statement, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&statement, needed);
	}
	result = SPI_execute(statement.data, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement.data,
			 SPI_result_code_string(result));
	pfree(statement.data);
}
