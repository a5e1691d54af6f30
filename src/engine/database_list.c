/*
 * database_list.c
 *		Reads pg_database for the launcher, which is connected to no database.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "engine/database_list.h"
#include "pgstat.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Not a template, and not one that DROP DATABASE left half dropped (its
 * connection limit is below -1).
 */
static bool
may_run_workers(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate &&
		database->datconnlimit >= -1;
}

List *
dbopt_list_databases(void)
{
	MemoryContext caller_context = CurrentMemoryContext;
	List	   *list = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	pgstat_report_activity(STATE_RUNNING, "reading pg_database");

	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext previous;

		if (!may_run_workers(database))
			continue;
		previous = MemoryContextSwitchTo(caller_context);
		list = lappend_oid(list, database->oid);
		MemoryContextSwitchTo(previous);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);

	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(caller_context);
	return list;
}
