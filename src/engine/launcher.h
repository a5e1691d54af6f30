/*
 * launcher.h
 *		The process that keeps a scheduler alive in each database that has the
 *		extension.
 */
#ifndef DBOPT_LAUNCHER_H
#define DBOPT_LAUNCHER_H

extern PGDLLEXPORT void dbopt_launcher_main(Datum main_arg);

#endif							/* DBOPT_LAUNCHER_H */
