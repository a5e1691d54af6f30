/*
 * index_row.c
 *		The rows of dbopt_index: what is declared.
 *
 * Run by backends and pool sessions, by heap access: who declares an index and
 * who builds it need no rights on the table.  It is small, and read as a whole.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "compat.h"
#include "engine/catalog.h"
#include "engine/index_row.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* ---- reading ------------------------------------------------------------- */

static char *
get_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static bool
get_bool(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return !isnull && DatumGetBool(value);
}

static List *
get_texts(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	List	   *texts = NIL;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			texts = lappend(texts, TextDatumGetCString(elements[i]));
	return texts;
}

DbOptIndexRow *
dbopt_index_row_read(HeapTuple tuple, TupleDesc desc)
{
	DbOptIndexRow *row = palloc0(sizeof(DbOptIndexRow));
	bool		isnull;
	Datum		author;

	row->name = get_text(tuple, desc, Anum_index_name);
	row->table_name = get_text(tuple, desc, Anum_index_table_name);
	row->definition = get_text(tuple, desc, Anum_index_definition);
	row->alternatives = get_texts(tuple, desc, Anum_index_alternatives);
	row->is_unique = get_bool(tuple, desc, Anum_index_is_unique);
	row->enabled = get_bool(tuple, desc, Anum_index_enabled);
	row->shipped = get_bool(tuple, desc, Anum_index_shipped);
	row->author = get_text(tuple, desc, Anum_index_author);
	author = heap_getattr(tuple, Anum_index_author_oid, desc, &isnull);
	row->author_oid = isnull ? InvalidOid : DatumGetObjectId(author);
	return row;
}

static int
compare_rows(const ListCell *a, const ListCell *b)
{
	return strcmp(((DbOptIndexRow *) lfirst(a))->name,
				  ((DbOptIndexRow *) lfirst(b))->name);
}

List *
dbopt_index_rows(void)
{
	Relation	rel = dbopt_table_open(DBOPT_INDEX, AccessShareLock);
	Snapshot	snapshot = dbopt_snapshot_new();
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	List	   *rows = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, dbopt_index_row_read(tuple,
												  RelationGetDescr(rel)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	list_sort(rows, compare_rows);
	return rows;
}

/* NULL: there is no such row. */
DbOptIndexRow *
dbopt_index_row_find(List *rows, const char *name)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		DbOptIndexRow *row = lfirst(cell);

		if (strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

/* ---- names --------------------------------------------------------------- */

/* The parser would cut a long name short: another table might answer to it. */
static void
check_part_lengths(const char *text)
{
	bool		quoted = false;
	int			length = 0;

	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"')
			quoted = !quoted;
		else if (*c == '.' && !quoted)
			length = 0;
		else if (++length >= NAMEDATALEN)
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG),
					 errmsg("table name \"%s\" is too long", text),
					 errhint("A name has at most %d bytes.",
							 NAMEDATALEN - 1)));
	}
}

void
dbopt_index_table_name(const char *table_name, char **schema, char **name)
{
	List	   *parts;

	check_part_lengths(table_name);
	parts = dbopt_qualified_name_list(table_name);
	if (list_length(parts) > 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("improper table name: \"%s\"", table_name),
				 errhint("Give the table, or the schema and the table, with quotes where SQL needs them.")));
	*schema = list_length(parts) == 2 ? strVal(linitial(parts)) : NULL;
	*name = strVal(llast(parts));
}

static Oid
find_in(const char *schema, const char *name)
{
	Oid			namespace = get_namespace_oid(schema, true);

	return OidIsValid(namespace) ? get_relname_relid(name, namespace) :
		InvalidOid;
}

Oid
dbopt_index_table_find(const char *table_name)
{
	char	   *schema;
	char	   *name;
	Oid			relid;

	dbopt_index_table_name(table_name, &schema, &name);
	if (schema != NULL)
		return find_in(schema, name);
	relid = get_relname_relid(name, dbopt_schema_oid());
	return OidIsValid(relid) ? relid : find_in("public", name);
}

/* ---- telling them apart -------------------------------------------------- */

static uint64
add_to_hash(uint64 hash, const char *text)
{
	if (text == NULL)
		return hash_bytes_extended((const unsigned char *) "", 0, ~hash);
	return hash_bytes_extended((const unsigned char *) text, strlen(text),
							   hash);
}

int64
dbopt_index_row_hash(const DbOptIndexRow *row)
{
	uint64		hash = row->is_unique << 1 | row->enabled;
	ListCell   *cell;

	hash = add_to_hash(hash, row->table_name);
	hash = add_to_hash(hash, row->author);
	hash = add_to_hash(hash, row->definition);
	foreach(cell, row->alternatives)
		hash = add_to_hash(hash, lfirst(cell));
	return hash == 0 ? 1 : (int64) hash;
}

/* ---- what can be declared ------------------------------------------------ */

static bool
ends_like_leftover(const char *name)
{
	size_t		length = strlen(name);

	while (length > 0 && name[length - 1] >= '0' && name[length - 1] <= '9')
		length--;
	return length >= 6 && (strncmp(name + length - 6, "_ccnew", 6) == 0 ||
						   strncmp(name + length - 6, "_ccold", 6) == 0);
}

void
dbopt_index_check_name(const char *name)
{
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of an index must not be empty"),
				 errhint("Give the index a name.")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("index name \"%s\" is too long", name),
				 errhint("A name has at most %d bytes.", NAMEDATALEN - 1)));
	if (strncmp(name, "dbopt_", 6) == 0 || strncmp(name, "pg_", 3) == 0 ||
		ends_like_leftover(name))
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("index name \"%s\" is reserved", name),
				 errhint("Names that begin with \"dbopt_\" or \"pg_\", or end in \"_ccnew\" or \"_ccold\", are those of indexes that are being built.")));
}
