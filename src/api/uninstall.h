/*
 * uninstall.h
 *		Making way for a command that drops the extension.
 */
#ifndef DBOPT_UNINSTALL_H
#define DBOPT_UNINSTALL_H

#include "nodes/nodes.h"

/*
 * For the utility hook: if this command, run by this user, may drop the
 * extension, ends the workers of this database, keeps them away until the
 * transaction ends, and locks the events tables before anything else.
 */
extern void dbopt_uninstall_prepare(Node *statement);

#endif							/* DBOPT_UNINSTALL_H */
