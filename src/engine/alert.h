/*
 * alert.h
 *		Changes of the database's health, told by the log and by NOTIFY.
 */
#ifndef DBOPT_ALERT_H
#define DBOPT_ALERT_H

#include "datatype/timestamp.h"
#include "state/shmem.h"

/*
 * By the scheduler, at the end of each round, outside a transaction.  "work":
 * some is due or being done.  Returns when the next round is to be for this,
 * DBOPT_NEVER when nothing is wrong and nothing is done.
 */
extern TimestampTz dbopt_alert_round(DbOptDatabase *database, bool work,
									 TimestampTz now);

/* Something has changed that could be wrong. */
extern void dbopt_alert_doubt(void);

#endif							/* DBOPT_ALERT_H */
