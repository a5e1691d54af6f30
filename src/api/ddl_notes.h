/*
 * ddl_notes.h
 *		Which objects have come, gone or changed: for launcher and schedulers.
 */
#ifndef DBOPT_DDL_NOTES_H
#define DBOPT_DDL_NOTES_H

#include "catalog/objectaccess.h"
#include "nodes/nodes.h"

/*
 * An object was created or altered, or is about to be dropped.  42501: a
 * trigger on a table of ours.
 */
extern void dbopt_note_object(ObjectAccessType access, Oid classId,
							  Oid objectId);

/* A utility statement has run: what no object access tells in time. */
extern void dbopt_note_statement(Node *statement);

#endif							/* DBOPT_DDL_NOTES_H */
