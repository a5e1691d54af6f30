/*
 * dbopt.c
 *		Module: magic, load, hooks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "state/guc.h"
#include "state/shmem.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/*
 * Without preloading there are the settings and the functions that need no
 * shared memory; everything else refuses with dbopt_require_preload().
 */
void
_PG_init(void)
{
	dbopt_guc_define();
	if (process_shared_preload_libraries_in_progress)
		dbopt_shmem_hooks_install();
}
