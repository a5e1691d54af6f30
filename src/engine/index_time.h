/*
 * index_time.h
 *		How long an index will take to build, from its sample.
 */
#ifndef DBOPT_INDEX_TIME_H
#define DBOPT_INDEX_TIME_H

#include "engine/index_sample.h"
#include "engine/index_size.h"

/*
 * Milliseconds of CREATE INDEX CONCURRENTLY that waits for nobody, by what
 * reading and sorting the sample took here.  Of the size everything else is
 * known.
 */
extern double dbopt_index_build_ms(const DbOptIndexShape *shape,
								   const DbOptIndexCounts *counts,
								   const DbOptIndexSample *sample,
								   const DbOptIndexSize *size);

#endif							/* DBOPT_INDEX_TIME_H */
