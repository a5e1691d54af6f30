/*
 * database_commands.h
 *		Commands that need a database without connections.
 */
#ifndef DBOPT_DATABASE_COMMANDS_H
#define DBOPT_DATABASE_COMMANDS_H

#include "nodes/nodes.h"

/*
 * A utility statement is about to run: clears the database that it needs of our
 * workers, and waits until they have gone (hold.h).  25001: in a transaction
 * block.
 */
extern void dbopt_database_make_way(Node *statement, bool top_level);

#endif							/* DBOPT_DATABASE_COMMANDS_H */
