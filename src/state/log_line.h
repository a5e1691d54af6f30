/*
 * log_line.h
 *		What dbopt says in the server log: a line for each thing that happened,
 *		with the particulars as one JSON object in its detail.
 *
 * The level is dbopt.log_level.  Nothing of a payload is said: no texts of
 * handlers' errors, no data.  Of each kind a handler may have
 * DBOPT_LOG_LINES lines in DBOPT_LOG_PERIOD_US, and all that have no slot so many
 * together; what is left out is counted, and its number logged by the
 * scheduler when that time is over.
 */
#ifndef DBOPT_LOG_LINE_H
#define DBOPT_LOG_LINE_H

#include "state/shmem.h"

#define DBOPT_LOG_LINES			10
#define DBOPT_LOG_PERIOD_US		(10 * USECS_PER_SEC)

typedef struct DbOptLogLine
{
	DbOptLogKind kind;
	int			slot;			/* of the handler whose lines are counted; -1:
								 * with those of all that have none */
	const char *message;
	const char *hint;			/* NULL: none */

	/* The detail; what is NULL or 0 is left out, and a delay below 0. */
	const char *handler;
	const char *event_id;
	const char *event_type;
	int			attempt;
	const char *sqlstate;
	int64		duration;		/* microseconds */
	int64		delay;			/* microseconds */
	uint64		left_out;		/* lines */
	const char *subject;		/* what "subject_value" is: "index", "role" */
	const char *subject_value;
} DbOptLogLine;

/* May one more line be written?  If not, it counts as left out. */
extern bool dbopt_log_permits(int slot, DbOptLogKind kind);

/* Writes a line that has been permitted. */
extern void dbopt_log_write(const DbOptLogLine *line);

/* Both in one. */
extern void dbopt_log_line(const DbOptLogLine *line);

/*
 * The text of an error for a line: what may hold data is withheld.
 */
extern const char *dbopt_log_error_text(const char *sqlstate,
										const char *message);

/*
 * By the scheduler: logs how many lines were left out in times that are over.
 * Returns when the next of these is, DT_NOEND for none.
 */
extern TimestampTz dbopt_log_left_out(TimestampTz now);

#endif							/* DBOPT_LOG_LINE_H */
