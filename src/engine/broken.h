/*
 * broken.h
 *		A handler that cannot be called: state and reason in dbopt_handler.
 */
#ifndef DBOPT_BROKEN_H
#define DBOPT_BROKEN_H

/* In a transaction.  Nothing happens when the handler is gone. */
extern void dbopt_handler_set_broken(int32 handler_id, const char *reason);

#endif							/* DBOPT_BROKEN_H */
