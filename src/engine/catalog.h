/*
 * catalog.h
 *		The extension's own tables, by number of column, and how the engine
 *		reads and writes them.
 *
 * The engine touches its tables by heap and index access alone: no SQL, so no
 * search_path, no operator, trigger, policy or privilege of anybody comes into
 * it, whoever the session is.  OIDs are cached per backend and forgotten when
 * the extension changes.
 */
#ifndef DBOPT_CATALOG_H
#define DBOPT_CATALOG_H

#include "utils/relcache.h"

typedef enum DbOptTable
{
	DBOPT_DATABASE,
	DBOPT_SOURCE,
	DBOPT_RETRY_POLICY,
	DBOPT_RETRYABLE_ERROR,
	DBOPT_HANDLER,
	DBOPT_CURSOR,
	DBOPT_CURSOR_VERSION,
	DBOPT_CHUNK,
	DBOPT_RETRY_QUEUE,
	DBOPT_DEAD_LETTER,
	DBOPT_TABLES				/* how many */
} DbOptTable;

/* InvalidOid when the extension is not installed in this database. */
extern Oid	dbopt_schema_oid(void);
extern Oid	dbopt_table_oid(DbOptTable table);
extern Oid	dbopt_table_index_oid(DbOptTable table);	/* its primary key */
extern Oid	dbopt_retry_due_index_oid(void);
extern Oid	dbopt_stamp_oid(void);

/* "@extschema@" in a text replaced by the quoted schema; palloc'd. */
extern char *dbopt_sql(const char *text);

#endif							/* DBOPT_CATALOG_H */
