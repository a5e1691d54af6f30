/*
 * report_chart.h
 *		Charts of the last hour, a minute a column, as inline SVG.
 *
 * The drawing is stretched to the width there is; what is written beside it is
 * HTML, and keeps its size.
 */
#ifndef DBOPT_REPORT_CHART_H
#define DBOPT_REPORT_CHART_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "policy/minutes.h"

/* How high a chart is, in its own units. */
#define DBOPT_CHART_HEIGHT	1000

/* The labels of the vertical axis, HTML, the topmost first. */
typedef struct DbOptChartAxis
{
	int			count;
	char	   *labels[16];
} DbOptChartAxis;

/* A round number that is not below "most": 1, 2 or 5 times a power of ten. */
extern double dbopt_chart_top(double most);

/* An axis from "top" to 0 by halves, labelled with counts. */
extern DbOptChartAxis dbopt_chart_counts(double top);

/* Heights are from 0 to DBOPT_CHART_HEIGHT; below 0: nothing is drawn. */
extern void dbopt_chart_begin(StringInfo html, const char *label,
							  const DbOptChartAxis *axis);
extern void dbopt_chart_bars(StringInfo html, const char *kind,
							 const double *from, const double *to);
extern void dbopt_chart_steps(StringInfo html, const char *kind,
							  const double *heights);
extern void dbopt_chart_line(StringInfo html, const char *kind,
							 double height);

/* What a pointer over a minute shows; "text" is HTML. */
extern void dbopt_chart_note(StringInfo html, int minute, const char *text);
extern void dbopt_chart_end(StringInfo html, TimestampTz now);

/* A small one in a line of text: successes, and failures on top. */
extern void dbopt_chart_spark(StringInfo html, const char *label,
							  const DbOptHandlerMinute *minutes);

#endif							/* DBOPT_REPORT_CHART_H */
