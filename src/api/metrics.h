/*
 * metrics.h
 *		What is measured, on its way to whoever shows it.
 *
 * The families come one after the other, each with all its samples, as the
 * Prometheus text format wants them.
 */
#ifndef DBOPT_METRICS_H
#define DBOPT_METRICS_H

#define DBOPT_MAX_LABELS	4

/* Labels that several samples share; values are any text. */
typedef struct DbOptLabels
{
	int			count;
	const char *names[DBOPT_MAX_LABELS];
	const char *values[DBOPT_MAX_LABELS];
	char	   *text;			/* as the text format has them, once made */
} DbOptLabels;

typedef enum DbOptMetricKind
{
	DBOPT_METRIC_COUNTER,
	DBOPT_METRIC_GAUGE,
	DBOPT_METRIC_HISTOGRAM
} DbOptMetricKind;

typedef struct DbOptMetric
{
	const char *name;			/* with dots */
	DbOptMetricKind kind;
	const char *help;
} DbOptMetric;

/* Where they go. */
typedef struct DbOptMetricSink
{
	void		(*family) (struct DbOptMetricSink *sink,
						   const DbOptMetric *metric);

	/*
	 * "part" is what a histogram's sample is: bucket, sum or count; else
	 * NULL.  A label of its own, NULL for none, comes last.
	 */
	void		(*sample) (struct DbOptMetricSink *sink,
						   const DbOptMetric *metric, const char *part,
						   DbOptLabels *labels, const char *label,
						   const char *value_of_label, double value);
} DbOptMetricSink;

/*
 * All of this database's.  Read from shared memory; in a transaction, and only
 * in a preloaded library.
 */
extern void dbopt_metrics_collect(DbOptMetricSink *sink);

#endif							/* DBOPT_METRICS_H */
