/*
 * report_hour.c
 *		dbopt_report(): throughput and times in handlers, minute by minute.
 *
 * Run by whoever calls it.  All figures are those of the page, which were
 * copied from shared memory.
 */
#include "postgres.h"

#include <math.h>

#include "api/report.h"
#include "api/report_chart.h"
#include "api/report_html.h"
#include "utils/timestamp.h"

static const double quantiles[] = {0.5, 0.95, 0.99};
static const char *const quantile_names[] = {"p50", "p95", "p99"};

typedef struct Quantiles
{
	double		times[lengthof(quantiles)]; /* microseconds; -1: no event */
} Quantiles;

static Quantiles
quantiles_of(const DbOptDatabaseMinute *minute)
{
	DbOptHistogram histogram;
	Quantiles	result;

	for (int i = 0; i < DBOPT_HISTOGRAM_BUCKETS; i++)
		histogram.buckets[i] = minute->times[i];
	for (int i = 0; i < lengthof(quantiles); i++)
	{
		double		time = dbopt_histogram_quantile(&histogram, quantiles[i]);

		result.times[i] = time > 0 ? time : -1;
	}
	return result;
}

static char *
minute_name(const DbOptReportPage *page, int minute)
{
	return dbopt_html_strftime(page->now - (DBOPT_MINUTES - 1 - minute) *
							   USECS_PER_MINUTE, "%H:%M");
}

/* What a pointer over the minute shows. */
static void
note_events(DbOptReportPage *page, int minute)
{
	const DbOptDatabaseMinute *counts = &page->minutes[minute];
	StringInfoData text;

	initStringInfo(&text);
	dbopt_html_text(&text, minute_name(page, minute));
	appendStringInfoString(&text, ": ");
	dbopt_html_count(&text, counts->successes);
	appendStringInfoString(&text, " delivered, ");
	dbopt_html_count(&text, counts->failures);
	appendStringInfoString(&text, " failed");
	dbopt_chart_note(&page->html, minute, text.data);
	pfree(text.data);
}

static void
figure(DbOptReportPage *page, const char *title)
{
	appendStringInfo(&page->html, "<figure><figcaption><h3>%s</h3><p>", title);
}

static void
key(StringInfo html, const char *kind, const char *name)
{
	appendStringInfo(html, "<span class=\"key %s\">%s</span> ", kind, name);
}

static void
put_throughput(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	double		successes[DBOPT_MINUTES];
	double		all[DBOPT_MINUTES];
	double		most = 0;
	double		top;
	DbOptChartAxis axis;

	for (int i = 0; i < DBOPT_MINUTES; i++)
		most = Max(most, (double) page->minutes[i].successes +
				   page->minutes[i].failures);
	top = dbopt_chart_top(most);
	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		successes[i] = page->minutes[i].successes / top * DBOPT_CHART_HEIGHT;
		all[i] = successes[i] +
			page->minutes[i].failures / top * DBOPT_CHART_HEIGHT;
	}

	figure(page, "Events a minute");
	key(html, "good", "delivered");
	key(html, "bad", "failed attempts");
	appendStringInfoString(html, "</p></figcaption>");
	axis = dbopt_chart_counts(top);
	dbopt_chart_begin(html, "Events delivered and failed in each minute of the last hour",
					  &axis);
	dbopt_chart_bars(html, "good", NULL, successes);
	dbopt_chart_bars(html, "bad", successes, all);
	for (int i = 0; i < DBOPT_MINUTES; i++)
		note_events(page, i);
	dbopt_chart_end(html, page->now);
	appendStringInfoString(html, "</figure>");
}

/* The decades between the shortest and the longest time. */
static void
find_decades(const Quantiles *minutes, int *low, int *high)
{
	double		least = 1e18;
	double		most = 0;

	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		if (minutes[i].times[0] < 0)
			continue;
		least = Min(least, minutes[i].times[0]);
		most = Max(most, minutes[i].times[lengthof(quantiles) - 1]);
	}
	*low = (int) floor(log10(Max(least, 1)));
	*high = Max((int) ceil(log10(Max(most, 1))), *low + 1);
}

static DbOptChartAxis
decades_axis(int low, int high)
{
	DbOptChartAxis axis = {.count = high - low + 1};

	Assert(axis.count <= lengthof(axis.labels));
	for (int i = 0; i < axis.count; i++)
	{
		StringInfoData label;

		initStringInfo(&label);
		dbopt_html_duration(&label, pow(10, high - i));
		axis.labels[i] = label.data;
	}
	return axis;
}

static void
put_times(DbOptReportPage *page, const Quantiles *minutes)
{
	static const char *const kinds[] = {"p50", "p95", "p99"};
	StringInfo	html = &page->html;
	DbOptChartAxis axis;
	int			low;
	int			high;

	find_decades(minutes, &low, &high);
	axis = decades_axis(low, high);
	figure(page, "Time in the handler");
	for (int q = 0; q < lengthof(quantiles); q++)
		key(html, kinds[q], quantile_names[q]);
	appendStringInfoString(html, "</p></figcaption>");
	dbopt_chart_begin(html, "Quantiles of the time in the handler in each minute of the last hour",
					  &axis);
	for (int q = lengthof(quantiles) - 1; q >= 0; q--)
	{
		double		heights[DBOPT_MINUTES];

		for (int i = 0; i < DBOPT_MINUTES; i++)
			heights[i] = minutes[i].times[q] < 0 ? -1 :
				DBOPT_CHART_HEIGHT * (log10(Max(minutes[i].times[q], 1)) - low) / (high - low);
		dbopt_chart_steps(html, kinds[q], heights);
	}
	dbopt_chart_end(html, page->now);
	appendStringInfoString(html, "</figure>");
}

static void
put_figures(DbOptReportPage *page, const Quantiles *minutes)
{
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<details><summary>Minute by minute</summary>"
						   "<div class=\"wide\"><table id=\"minutes\"><thead><tr>"
						   "<th>Minute</th><th class=\"n\">Delivered</th><th class=\"n\">Failed</th>"
						   "<th class=\"n\">Given up</th><th class=\"n\">p50</th><th class=\"n\">p95</th><th class=\"n\">p99</th>"
						   "<th class=\"n\">Sessions</th><th class=\"n\">Jobs waiting</th></tr></thead><tbody>");
	for (int i = DBOPT_MINUTES - 1; i >= 0; i--)
	{
		const DbOptDatabaseMinute *counts = &page->minutes[i];
		uint32		values[] = {counts->successes, counts->failures,
		counts->dead_letters};

		appendStringInfoString(html, "<tr><td>");
		dbopt_html_text(html, minute_name(page, i));
		appendStringInfoString(html, "</td>");
		for (int v = 0; v < lengthof(values); v++)
		{
			appendStringInfoString(html, "<td class=\"n\">");
			dbopt_html_count(html, values[v]);
			appendStringInfoString(html, "</td>");
		}
		for (int q = 0; q < lengthof(quantiles); q++)
		{
			appendStringInfoString(html, "<td class=\"n\">");
			if (minutes[i].times[q] >= 0)
				dbopt_html_duration(html, minutes[i].times[q]);
			appendStringInfoString(html, "</td>");
		}
		appendStringInfo(html, "<td class=\"n\">%u</td><td class=\"n\">%u</td></tr>",
						 counts->used, counts->waiting);
	}
	appendStringInfoString(html, "</tbody></table></div></details>");
}

void
dbopt_report_hour(DbOptReportPage *page)
{
	Quantiles	minutes[DBOPT_MINUTES];

	for (int i = 0; i < DBOPT_MINUTES; i++)
		minutes[i] = quantiles_of(&page->minutes[i]);
	dbopt_report_section(page, "hour", "The last hour");
	if (page->hour.successes + page->hour.failures == 0)
		appendStringInfoString(&page->html, "<p class=\"empty\">Nothing was delivered.</p>");
	else
	{
		appendStringInfoString(&page->html, "<div class=\"charts\">");
		put_throughput(page);
		put_times(page, minutes);
		appendStringInfoString(&page->html, "</div>");
	}
	put_figures(page, minutes);
	appendStringInfoString(&page->html, "</section>");
}
