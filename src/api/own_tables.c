/*
 * own_tables.c
 *		What others may not do to dbopt's own tables.
 *
 * Run by every backend that makes a trigger.  GRANT ALL ON ALL TABLES IN
 * SCHEMA is typed easily, and comprises the right to put a trigger on a table,
 * or a foreign key, which has triggers.  On a table that dbopt writes as a
 * superuser that would be the right to do anything.  What the rest of such a
 * grant would give away, row level security keeps.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "api/own_tables.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* The table of a trigger that other commands do not see yet. */
static Oid
table_of(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			relid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, SnapshotSelf,
							  1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return relid;
}

void
dbopt_own_tables_check_trigger(Oid trigger)
{
	Oid			extension = get_extension_oid("dbopt", true);
	Oid			relid;

	if (!OidIsValid(extension))
		return;
	relid = table_of(trigger);
	if (!OidIsValid(relid) || dbopt_owns_class(relid, GetUserId()) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("table \"%s\" belongs to extension \"dbopt\"",
					get_rel_name(relid)),
			 errdetail("Only its owner may put triggers on it, or refer to it.")));
}
