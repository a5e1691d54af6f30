/*
 * control.c
 *		dbopt_pause() and dbopt_resume(): the whole database.
 *
 * Run by backends.  The state is a row, so that it survives a restart and is
 * seen by every process.
 */
#include "postgres.h"

#include "api/attach.h"
#include "api/primary.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/identity.h"
#include "engine/owner_spi.h"
#include "engine/source_state.h"
#include "fmgr.h"
#include "state/news.h"

PG_FUNCTION_INFO_V1(dbopt_pause);
PG_FUNCTION_INFO_V1(dbopt_resume);

static void
set_paused(bool paused)
{
	DbOptOwnerScope scope;
	DbOptOwnerArgs args = {0};

	dbopt_owner_begin(&scope);
	dbopt_identity_store();
	dbopt_owner_bind(&args, BOOLOID, BoolGetDatum(paused));
	dbopt_owner_execute(dbopt_sql("UPDATE @extschema@.dbopt_database"
								  " SET paused = $1 WHERE paused <> $1"),
						&args);
	dbopt_owner_end(&scope);
	dbopt_config_changed();
	dbopt_news_note_config();
	if (!paused)
		dbopt_news_note_many();
}

/*
 * dbopt_pause() RETURNS void
 */
Datum
dbopt_pause(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	dbopt_require_identity();
	set_paused(true);
	PG_RETURN_VOID();
}

/*
 * dbopt_resume() RETURNS void
 *
 * In a restored or copied database, first makes it this one's.
 */
Datum
dbopt_resume(PG_FUNCTION_ARGS)
{
	dbopt_require_primary(fcinfo);
	if (dbopt_config_get()->foreign_identity)
		dbopt_identity_adopt();
	set_paused(false);
	dbopt_source_refresh_states();
	PG_RETURN_VOID();
}
