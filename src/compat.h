/*
 * compat.h
 *		Every difference between PostgreSQL's major versions, and nothing else.
 */
#ifndef DBOPT_COMPAT_H
#define DBOPT_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "dbopt needs PostgreSQL 15 or later"
#endif

/* From 16 on the macros for variable-length values are not in postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* From 17 on a process is known by its number alone. */
#if PG_VERSION_NUM >= 170000
#define DBOPT_MY_PROC_NUMBER	((int) MyProcNumber)
#else
#define DBOPT_MY_PROC_NUMBER	(MyProc->pgprocno)
#endif

/* From 17 on a background worker may log in as a role without LOGIN. */
#if PG_VERSION_NUM >= 170000
#define DBOPT_ROLE_NEEDS_LOGIN	false
#define DBOPT_SESSION_FLAGS		BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define DBOPT_ROLE_NEEDS_LOGIN	true
#define DBOPT_SESSION_FLAGS		0
#endif

/* From 18 on the server makes version 7 UUIDs itself. */
#if PG_VERSION_NUM >= 180000
#define DBOPT_BUILTIN_UUID_V7
#endif

/* From 16 on input functions take a place for soft errors. */
#if PG_VERSION_NUM >= 160000
#define dbopt_qualified_name_list(text) stringToQualifiedNameList((text), NULL)
#else
#define dbopt_qualified_name_list(text) stringToQualifiedNameList((text))
#endif

/* From 16 on membership in a role need not allow SET ROLE. */
#if PG_VERSION_NUM >= 160000
#define dbopt_can_set_role(member, roleid) \
	member_can_set_role((member), (roleid))
#else
#define dbopt_can_set_role(member, roleid) \
	is_member_of_role((member), (roleid))
#endif

/* From 16 on ownership checks go by object class. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class_d.h"
#include "catalog/pg_database_d.h"
#include "catalog/pg_extension_d.h"
#include "catalog/pg_namespace_d.h"
#include "catalog/pg_proc_d.h"
#include "catalog/pg_tablespace_d.h"

#define dbopt_database_aclcheck(dboid, roleid, mode) \
	object_aclcheck(DatabaseRelationId, (dboid), (roleid), (mode))
#define dbopt_namespace_aclcheck(nspoid, roleid, mode) \
	object_aclcheck(NamespaceRelationId, (nspoid), (roleid), (mode))
#define dbopt_tablespace_aclcheck(spcoid, roleid) \
	object_aclcheck(TableSpaceRelationId, (spcoid), (roleid), ACL_CREATE)
#define dbopt_owns_class(relid, roleid) \
	object_ownercheck(RelationRelationId, (relid), (roleid))
#define dbopt_owns_database(dboid, roleid) \
	object_ownercheck(DatabaseRelationId, (dboid), (roleid))
#define dbopt_owns_extension(extension, roleid) \
	object_ownercheck(ExtensionRelationId, (extension), (roleid))
#define dbopt_owns_namespace(namespace, roleid) \
	object_ownercheck(NamespaceRelationId, (namespace), (roleid))
#define dbopt_function_aclcheck(fnoid, roleid) \
	object_aclcheck(ProcedureRelationId, (fnoid), (roleid), ACL_EXECUTE)
#else
#define dbopt_database_aclcheck(dboid, roleid, mode) \
	pg_database_aclcheck((dboid), (roleid), (mode))
#define dbopt_namespace_aclcheck(nspoid, roleid, mode) \
	pg_namespace_aclcheck((nspoid), (roleid), (mode))
#define dbopt_tablespace_aclcheck(spcoid, roleid) \
	pg_tablespace_aclcheck((spcoid), (roleid), ACL_CREATE)
#define dbopt_owns_class(relid, roleid) \
	pg_class_ownercheck((relid), (roleid))
#define dbopt_owns_database(dboid, roleid) \
	pg_database_ownercheck((dboid), (roleid))
#define dbopt_owns_extension(extension, roleid) \
	pg_extension_ownercheck((extension), (roleid))
#define dbopt_owns_namespace(namespace, roleid) \
	pg_namespace_ownercheck((namespace), (roleid))
#define dbopt_function_aclcheck(fnoid, roleid) \
	pg_proc_aclcheck((fnoid), (roleid), ACL_EXECUTE)
#endif

/* From 17 on settings may limit how long transactions last: not ours. */
#if PG_VERSION_NUM >= 170000
#define DBOPT_DISABLE_TRANSACTION_TIMEOUT() \
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE)
#else
#define DBOPT_DISABLE_TRANSACTION_TIMEOUT()	((void) 0)
#endif

/* From 17 on those that are synchronized can be dropped alone. */
#if PG_VERSION_NUM >= 170000
#define dbopt_replication_slot_cleanup()	ReplicationSlotCleanup(false)
#else
#define dbopt_replication_slot_cleanup()	ReplicationSlotCleanup()
#endif

/* From 18 on this comes with PostgreSQL. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn	__attribute__((noreturn))
#endif

/* From 18 on index scans can be counted, and deferrable keys asked for. */
#if PG_VERSION_NUM >= 180000
#define dbopt_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#define dbopt_primary_key_index(rel)	RelationGetPrimaryKeyIndex((rel), false)
#else
#define dbopt_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#define dbopt_primary_key_index(rel)	RelationGetPrimaryKeyIndex(rel)
#endif

/* From 18 on every portal may be run again. */
#if PG_VERSION_NUM >= 180000
#define dbopt_portal_run(portal, top_level, receiver, completion) \
	PortalRun((portal), FETCH_ALL, (top_level), (receiver), (receiver), \
			  (completion))
#else
#define dbopt_portal_run(portal, top_level, receiver, completion) \
	PortalRun((portal), FETCH_ALL, (top_level), true, (receiver), (receiver), \
			  (completion))
#endif

/* From 17 on an extension's waits have names. */
#if PG_VERSION_NUM >= 170000
#define DBOPT_WAIT_EVENT(name)	WaitEventExtensionNew(name)
#else
#define DBOPT_WAIT_EVENT(name)	PG_WAIT_EXTENSION
#endif

/* The CPU that this process runs on; -1: unknown. */
#ifdef __linux__
#include <sched.h>
#define dbopt_cpu()	sched_getcpu()
#else
#define dbopt_cpu()	(-1)
#endif

#endif							/* DBOPT_COMPAT_H */
