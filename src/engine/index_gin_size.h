/*
 * index_gin_size.h
 *		How large an inverted index will be.
 */
#ifndef DBOPT_INDEX_GIN_SIZE_H
#define DBOPT_INDEX_GIN_SIZE_H

#include "engine/index_sample.h"
#include "engine/index_size.h"

/* Bytes; sets the entries and keys of *size. */
extern double dbopt_gin_size(const DbOptIndexShape *shape,
							 const DbOptIndexCounts *counts,
							 const DbOptIndexSample *sample,
							 DbOptIndexSize *size);

#endif							/* DBOPT_INDEX_GIN_SIZE_H */
