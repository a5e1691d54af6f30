/*
 * update.h
 *		Making way for ALTER EXTENSION dbopt UPDATE.
 */
#ifndef DBOPT_UPDATE_H
#define DBOPT_UPDATE_H

#include "nodes/nodes.h"

/*
 * For the utility hook: if this command, run by this user, may update the
 * extension, keeps the workers of this database away from its tables until the
 * transaction ends (hold.h).
 */
extern void dbopt_update_prepare(Node *statement);

#endif							/* DBOPT_UPDATE_H */
