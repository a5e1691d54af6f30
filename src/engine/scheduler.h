/*
 * scheduler.h
 *		The process that knows a database's work and gives it to sessions.
 */
#ifndef DBOPT_SCHEDULER_H
#define DBOPT_SCHEDULER_H

extern PGDLLEXPORT void dbopt_scheduler_main(Datum main_arg);

#endif							/* DBOPT_SCHEDULER_H */
