/*
 * index_install.c
 *		What CREATE EXTENSION and ALTER EXTENSION ... UPDATE do about indexes.
 *
 * Run once, by the scripts, which drop the functions afterwards: every index
 * that is declared and applies is built at once, or queued for the pool where
 * the table is not small or in use; and what version 1.0 did not write down of
 * those it has built is written down.
 */
#include "postgres.h"

#include "engine/index_inline.h"
#include "engine/index_own.h"
#include "engine/index_target.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(dbopt_install_indexes);
PG_FUNCTION_INFO_V1(dbopt_note_indexes);

/*
 * dbopt_install_indexes() RETURNS void
 */
Datum
dbopt_install_indexes(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	if (IsBinaryUpgrade)
		PG_RETURN_VOID();
	foreach(cell, dbopt_index_rows())
	{
		DbOptIndexTarget target;

		CHECK_FOR_INTERRUPTS();
		dbopt_index_examine(lfirst(cell), &target);
		if (target.condition != DBOPT_INDEX_VALID &&
			target.condition != DBOPT_INDEX_INAPPLICABLE)
			(void) dbopt_index_provide(&target);
	}
	PG_RETURN_VOID();
}

/*
 * dbopt_note_indexes() RETURNS void
 */
Datum
dbopt_note_indexes(PG_FUNCTION_ARGS)
{
	dbopt_index_own_refresh();
	PG_RETURN_VOID();
}
