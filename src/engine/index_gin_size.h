/*
 * index_gin_size.h
 *		How large an inverted index will be.
 */
#ifndef DBOPT_INDEX_GIN_SIZE_H
#define DBOPT_INDEX_GIN_SIZE_H

#include "engine/index_sample.h"

/* Bytes; *entries: how many pairs of key and row it holds. */
extern double dbopt_gin_size(const DbOptIndexShape *shape,
							 const DbOptIndexCounts *counts,
							 const DbOptIndexSample *sample,
							 double *entries);

#endif							/* DBOPT_INDEX_GIN_SIZE_H */
