/*
 * index_install.c
 *		What CREATE EXTENSION does about indexes.
 *
 * Run once, by the install script, which drops the function afterwards: every
 * index that is declared and applies is built at once, or queued for the pool
 * where the table is not small or in use.
 */
#include "postgres.h"

#include "engine/index_inline.h"
#include "engine/index_target.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(dbopt_install_indexes);

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
			dbopt_index_provide(&target);
	}
	PG_RETURN_VOID();
}
