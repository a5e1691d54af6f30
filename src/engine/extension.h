/*
 * extension.h
 *		The extension's row in pg_extension: its schema, owner and version.
 */
#ifndef DBOPT_EXTENSION_H
#define DBOPT_EXTENSION_H

/* The schema of any extension; InvalidOid when this database has not got it. */
extern Oid	dbopt_extension_schema(const char *name);

/* The version of dbopt's SQL objects, palloc'd; NULL: there are none here. */
extern char *dbopt_installed_version(void);

/*
 * The version of dbopt's SQL objects, palloc'd, if it is newer than the newest
 * that this library knows; NULL when it is not, or dbopt is not installed.
 */
extern char *dbopt_newer_version(void);

/* The newest version that this library knows. */
extern const char *dbopt_known_version(void);

/* Raises 55000 with a hint when the SQL objects are of a newer version. */
extern void dbopt_require_known_version(void);

/* The role that owns dbopt and its tables; they must be of a known version. */
extern Oid	dbopt_extension_owner(void);

#endif							/* DBOPT_EXTENSION_H */
