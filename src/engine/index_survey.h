/*
 * index_survey.h
 *		Queues declared indexes that are missing, for dbopt.auto_index.
 */
#ifndef DBOPT_INDEX_SURVEY_H
#define DBOPT_INDEX_SURVEY_H

/* Outside a transaction; runs several.  "context" outlives them. */
extern void dbopt_index_survey(MemoryContext context);

#endif							/* DBOPT_INDEX_SURVEY_H */
