/*
 * log_types.c
 *		The event types that are in a log.
 *
 * Run by the scheduler, on a log that is open (log.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "engine/log.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

/* Its column of the log index. */
#define INDEX_EVENT_TYPE 1

/* The lowest type behind "after" (NULL: the lowest) in a leaf; NULL: none. */
static char *
next_event_type(const DbOptLogLeaf *leaf, Snapshot snapshot, const char *after)
{
	IndexScanDesc scan = dbopt_index_beginscan(leaf->rel, leaf->index,
											   snapshot, after ? 1 : 0);
	TupleTableSlot *slot = table_slot_create(leaf->rel, NULL);
	ScanKeyData key;
	char	   *type = NULL;

	if (after != NULL)
		ScanKeyEntryInitialize(&key, 0, INDEX_EVENT_TYPE,
							   BTGreaterStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXT_GT,
							   CStringGetTextDatum(after));
	scan->xs_want_itup = true;
	index_rescan(scan, &key, after ? 1 : 0, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = index_getattr(scan->xs_itup, INDEX_EVENT_TYPE,
										  RelationGetDescr(leaf->index),
										  &isnull);

		if (!isnull)
			type = TextDatumGetCString(value);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return type;
}

/* Skip scan: one index descent a type and leaf. */
List *
dbopt_log_event_types(DbOptLog *log, Snapshot snapshot)
{
	List	   *types = NIL;
	char	   *last = NULL;

	for (;;)
	{
		char	   *lowest = NULL;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < log->nleaves; i++)
		{
			char	   *type = next_event_type(&log->leaves[i], snapshot, last);

			if (type != NULL && (lowest == NULL || strcmp(type, lowest) < 0))
				lowest = type;
		}
		if (lowest == NULL)
			return types;
		types = lappend(types, lowest);
		last = lowest;
	}
}
