/*
 * broken.c
 *		A handler that cannot be called: state and reason in dbopt_handler.
 *
 * Run by pool sessions, as the handler's role, by heap access.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "engine/broken.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "miscadmin.h"
#include "state/circuit.h"
#include "state/log_line.h"
#include "state/news.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static void
update_state(Relation rel, HeapTuple tuple, const char *reason)
{
	int			columns[] = {Anum_handler_state, Anum_handler_reason};
	Datum		values[] = {CStringGetTextDatum("broken"),
	CStringGetTextDatum(reason)};
	bool		nulls[] = {false, false};

	tuple = heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel),
									  lengthof(columns), columns, values,
									  nulls);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
}

static void
log_broken(int32 handler_id, const char *name, const char *reason)
{
	DbOptLogLine line = {
		.kind = DBOPT_LOG_HANDLER,
		.slot = dbopt_handler_find(MyDatabaseId, handler_id),
		.handler = name,
		.message = psprintf("handler \"%s\" is broken: %s", name, reason)
	};

	dbopt_log_line(&line);
}

static char *
get_name(Relation rel, HeapTuple tuple)
{
	bool		isnull;
	Datum		name = heap_getattr(tuple, Anum_handler_name,
									RelationGetDescr(rel), &isnull);

	return TextDatumGetCString(name);
}

void
dbopt_handler_set_broken(int32 handler_id, const char *reason)
{
	Relation	rel = dbopt_table_open(DBOPT_HANDLER, RowExclusiveLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_handler_id, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(handler_id));
	scan = systable_beginscan(rel, dbopt_table_index_oid(DBOPT_HANDLER), true,
							  snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		update_state(rel, tuple, reason);
		dbopt_config_changed();
		dbopt_news_note_config();
		log_broken(handler_id, get_name(rel, tuple), reason);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}
