/*
 * patterns.h
 *		Which handlers of a source want an event type, without asking each.
 */
#ifndef DBOPT_PATTERNS_H
#define DBOPT_PATTERNS_H

#include "engine/config.h"

typedef struct DbOptPatterns DbOptPatterns;

/*
 * In the current memory context; valid as long as the configuration.
 */
extern DbOptPatterns *dbopt_patterns_make(const DbOptConfig *config,
										  const DbOptSource *source);

/* Of DbOptHandler *, the most specific first. */
extern List *dbopt_patterns_match(const DbOptPatterns *patterns,
								  const char *event_type);

#endif							/* DBOPT_PATTERNS_H */
