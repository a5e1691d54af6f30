/*
 * ddl_notes.c
 *		Which objects have come, gone or changed: for launcher and schedulers.
 *
 * Run by every backend, from the hooks of dbopt.c.  What a transaction has
 * created, altered or dropped is known at its commit; until then it is a note
 * (news.h).  Takes no lock.
 */
#include "postgres.h"

#include "api/ddl_notes.h"
#include "api/own_tables.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "engine/config.h"
#include "nodes/parsenodes.h"
#include "state/guc.h"
#include "state/news.h"
#include "utils/lsyscache.h"

/*
 * Could this relation be an events table or one that indexes are declared for,
 * or an index?
 */
static bool
is_lasting(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

void
dbopt_note_object(ObjectAccessType access, Oid classId, Oid objectId)
{
	switch (classId)
	{
		case ExtensionRelationId:
			dbopt_news_note_launcher();
			dbopt_news_note_config();
			if (access == OAT_POST_ALTER)
				dbopt_config_changed(); /* its version, perhaps */
			break;
		case DatabaseRelationId:
			dbopt_news_note_database(objectId);
			break;
		case ProcedureRelationId:
		case NamespaceRelationId:
			if (access != OAT_POST_CREATE)
				dbopt_news_note_objects();
			break;
		case RelationRelationId:
			if (access != OAT_POST_CREATE && is_lasting(objectId))
				dbopt_news_note_objects();
			break;
		case TriggerRelationId:
			if (access == OAT_POST_CREATE)
				dbopt_own_tables_check_trigger(objectId);
			dbopt_news_note_objects();
			break;
		case AuthIdRelationId:
			dbopt_news_note_roles();
			break;
		case DbRoleSettingRelationId:
			dbopt_news_note_settings();
			break;
		default:
			break;
	}
}

/* A session keeps what its role was in this when it logged in. */
static bool
changes_superuser(const AlterRoleStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "superuser") == 0)
			return true;
	}
	return false;
}

static bool
is_lasting_name(const RangeVar *name)
{
	Oid			relid = name == NULL ? InvalidOid :
	RangeVarGetRelid(name, NoLock, true);

	return OidIsValid(relid) && is_lasting(relid);
}

/*
 * What no object access hook tells in time: an index that is built
 * concurrently is valid only at the end, partitions come and go, and so do
 * rights to connect, by grants on databases and of roles; and that a role is, or
 * is not, a superuser any longer.
 */
static void
note_affected(Node *statement)
{
	bool		affected = false;

	switch (nodeTag(statement))
	{
		case T_IndexStmt:
			affected = is_lasting_name(((IndexStmt *) statement)->relation);
			break;
		case T_ReindexStmt:
			affected = true;
			break;
		case T_AlterTableStmt:
			affected = is_lasting_name(((AlterTableStmt *) statement)->relation);
			break;
		case T_CreateStmt:
			affected = ((CreateStmt *) statement)->partbound != NULL;
			break;
		case T_GrantStmt:
			if (((GrantStmt *) statement)->objtype == OBJECT_DATABASE)
				dbopt_news_note_roles();
			break;
		case T_GrantRoleStmt:
			dbopt_news_note_roles();
			break;
		case T_AlterRoleStmt:
			if (changes_superuser((AlterRoleStmt *) statement))
				dbopt_news_note_settings();
			break;
		default:
			break;
	}
	if (affected)
		dbopt_news_note_objects();
}

/*
 * Could this statement have made a declared index possible?
 */
static bool
brings_tables(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return is_lasting_name(((CreateStmt *) statement)->relation);
		case T_CreateTableAsStmt:
			return is_lasting_name(((CreateTableAsStmt *) statement)->into->rel);
		case T_AlterTableStmt:
			return is_lasting_name(((AlterTableStmt *) statement)->relation);
		case T_AlterObjectSchemaStmt:
			return ((AlterObjectSchemaStmt *) statement)->objectType == OBJECT_TABLE;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->relationType == OBJECT_TABLE ||
				((RenameStmt *) statement)->renameType == OBJECT_TABLE ||
				((RenameStmt *) statement)->renameType == OBJECT_SCHEMA;
		default:
			return false;
	}
}

void
dbopt_note_statement(Node *statement)
{
	note_affected(statement);
	if (dbopt_auto_index && brings_tables(statement))
		dbopt_news_note_tables();
}
