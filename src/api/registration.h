/*
 * registration.h
 *		What a caller of dbopt_register_handler() wants.
 */
#ifndef DBOPT_REGISTRATION_H
#define DBOPT_REGISTRATION_H

#include "datatype/timestamp.h"
#include "fmgr.h"

typedef struct DbOptRegistration
{
	/* As given; a default where an argument was left out or is null. */
	char	   *name;
	char	   *event_type;
	Oid			function;
	Oid			events;			/* InvalidOid: the only one */
	char	   *policy;
	int32		max_concurrency;	/* 0: no limit of its own */
	int32		chunk_size;		/* 0: dbopt.chunk_size */
	Interval   *timeout;		/* NULL: none */
	int32		priority;
	char	   *start_from;		/* NULL: as the source's kind has it */
	bool		ordered;
	Oid			role;
	bool		replace;

	/* Found out. */
	int32		source_id;
	bool		mark_processed;
	const char *argument_kind;
	bool		was_ordered;	/* the handler that is replaced */
} DbOptRegistration;

/* Reads the arguments; 22004 where one is null that must not be. */
extern void dbopt_registration_read(FunctionCallInfo fcinfo,
									DbOptRegistration *wanted);

/* 22023, 42622 or 42939 for a value that cannot be. */
extern void dbopt_registration_check(const DbOptRegistration *wanted);

/* Writes the row: anew, or over the one of the same name. */
extern void dbopt_registration_insert(const DbOptRegistration *wanted);
extern void dbopt_registration_replace(const DbOptRegistration *wanted);

#endif							/* DBOPT_REGISTRATION_H */
