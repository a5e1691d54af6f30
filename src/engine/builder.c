/*
 * builder.c
 *		Which role's session builds an index.
 *
 * Run by the scheduler alone.  Tables and partitions are not locked: what is
 * found may have changed when the session begins, which then fails.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database_d.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace_d.h"
#include "compat.h"
#include "engine/builder.h"
#include "engine/catalog.h"
#include "engine/crew.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

bool
dbopt_builder_fails(Oid role)
{
	return dbopt_crew_role(role)->failures > 0;
}

static bool
can_log_in(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can;

	if (!HeapTupleIsValid(tuple))
		return false;
	can = !DBOPT_ROLE_NEEDS_LOGIN ||
		((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	return can && dbopt_database_aclcheck(MyDatabaseId, role,
										  ACL_CONNECT) == ACLCHECK_OK;
}

/* Could the role create an index on this table, or partition? */
static bool
may_create(Oid role, Oid relid)
{
	if (get_rel_relkind(relid) == '\0')
		return true;			/* has just been dropped */
	return dbopt_owns_class(relid, role) &&
		dbopt_namespace_aclcheck(get_rel_namespace(relid), role,
								 ACL_CREATE) == ACLCHECK_OK;
}

/* ... and on all of its partitions?  Each is built by itself. */
static bool
may_create_all(Oid role, Oid relid)
{
	ListCell   *cell;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return may_create(role, relid);
	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
	{
		if (!may_create(role, lfirst_oid(cell)))
			return false;
	}
	return true;
}

Oid
dbopt_builder_choose(Oid relid, Oid deputy)
{
	Oid			owner = dbopt_relation_owner(relid);

	if (!OidIsValid(owner))
		return InvalidOid;
	return can_log_in(owner) && !dbopt_builder_fails(owner) &&
		may_create_all(owner, relid) ? owner : deputy;
}
