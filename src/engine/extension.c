/*
 * extension.c
 *		The extension's row in pg_extension: its schema, owner and version.
 *
 * Run by every process that uses dbopt.
 *
 * A library runs every older version of the SQL objects, for ALTER EXTENSION
 * comes after it.  Of a newer one it knows neither tables nor functions: it
 * keeps its hands off all but the offset that the stamp trigger reads, whose
 * columns stay what they are in all versions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "engine/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

/* The newest version that we know: that of dbopt.control. */
#define KNOWN_MAJOR		1
#define KNOWN_MINOR		1

/* What we ask of the row. */
typedef struct ExtensionRow
{
	Oid			schema;
	Oid			owner;
	char	   *version;
} ExtensionRow;

/* False: this database has not got the extension. */
static bool
read_row(const char *name, ExtensionRow *row)
{
	Oid			extension = get_extension_oid(name, true);
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(catalog), &isnull);

		row->schema = form->extnamespace;
		row->owner = form->extowner;
		row->version = TextDatumGetCString(version);	/* NOT NULL */
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

Oid
dbopt_extension_schema(const char *name)
{
	ExtensionRow row;

	return read_row(name, &row) ? row.schema : InvalidOid;
}

/* A version that is no "major.minor" is none of those that we know. */
static bool
is_newer(const char *version)
{
	int			major,
				minor,
				length = 0;

	if (sscanf(version, "%d.%d%n", &major, &minor, &length) != 2 ||
		version[length] != '\0')
		return true;
	return major > KNOWN_MAJOR ||
		(major == KNOWN_MAJOR && minor > KNOWN_MINOR);
}

char *
dbopt_installed_version(void)
{
	ExtensionRow row;

	return read_row("dbopt", &row) ? row.version : NULL;
}

char *
dbopt_newer_version(void)
{
	char	   *version = dbopt_installed_version();

	return version != NULL && is_newer(version) ? version : NULL;
}

const char *
dbopt_known_version(void)
{
	return CppAsString2(KNOWN_MAJOR) "." CppAsString2(KNOWN_MINOR);
}

static void
refuse(const char *version)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"dbopt\" of this database is of version %s, and the library knows versions up to %s",
					version, dbopt_known_version()),
			 errdetail("Events are stamped, and wait."),
			 errhint("Install the library of that version and restart the server.")));
}

void
dbopt_require_known_version(void)
{
	char	   *version = dbopt_newer_version();

	if (version != NULL)
		refuse(version);
}

Oid
dbopt_extension_owner(void)
{
	ExtensionRow row;

	if (!read_row("dbopt", &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"dbopt\" does not exist")));
	if (is_newer(row.version))
		refuse(row.version);
	return row.owner;
}
