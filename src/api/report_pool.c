/*
 * report_pool.c
 *		dbopt_report(): the session pool.
 *
 * Run by whoever calls it, as the extension's owner.
 */
#include "postgres.h"

#include "api/report.h"
#include "api/report_chart.h"
#include "api/report_html.h"
#include "engine/catalog.h"
#include "engine/owner_spi.h"
#include "state/guc.h"
#include "utils/timestamp.h"

#define MOST_SESSIONS	60

static void
note_sessions(DbOptReportPage *page, int minute)
{
	char	   *time = dbopt_html_strftime(page->now - (DBOPT_MINUTES - 1 - minute) *
										   USECS_PER_MINUTE, "%H:%M");
	char	   *text = psprintf("%s: up to %u at work, %u jobs waiting", time,
								page->minutes[minute].used,
								page->minutes[minute].waiting);

	dbopt_chart_note(&page->html, minute, text);
}

static void
put_chart(DbOptReportPage *page, const DbOptPoolLimits *limits)
{
	StringInfo	html = &page->html;
	double		top = dbopt_chart_top(Max(Max(page->hour.used,
											  page->hour.waiting),
										  (uint32) limits->max));
	DbOptChartAxis axis = dbopt_chart_counts(top);
	double		used[DBOPT_MINUTES];
	double		waiting[DBOPT_MINUTES];

	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		used[i] = page->minutes[i].used / top * DBOPT_CHART_HEIGHT;
		waiting[i] = page->minutes[i].waiting == 0 ? -1 :
			page->minutes[i].waiting / top * DBOPT_CHART_HEIGHT;
	}
	appendStringInfo(html, "<figure><figcaption><h3>Sessions at work, the most in each minute</h3><p>"
					 "<span class=\"key accent\">at work</span> <span class=\"key bad\">jobs waiting</span>"
					 " <span class=\"key limit\">limit %d</span></p></figcaption>",
					 limits->max);
	dbopt_chart_begin(html, "Sessions at work and jobs waiting in each minute of the last hour",
					  &axis);
	dbopt_chart_bars(html, "accent", NULL, used);
	dbopt_chart_line(html, "limit", limits->max / top * DBOPT_CHART_HEIGHT);
	dbopt_chart_steps(html, "bad", waiting);
	for (int i = 0; i < DBOPT_MINUTES; i++)
		note_sessions(page, i);
	dbopt_chart_end(html, page->now);
	appendStringInfoString(html, "</figure>");
}

static void
put_summary(DbOptReportPage *page, const DbOptPoolLimits *limits)
{
	const DbOptReportPool *pool = &page->pool;
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<p class=\"lead\">");
	dbopt_report_badge(html, dbopt_report_health_kind(pool->health),
					   pool->health);
	appendStringInfo(html, " " INT64_FORMAT " of " INT64_FORMAT " sessions at work, "
					 INT64_FORMAT " idle, " INT64_FORMAT " job%s waiting.",
					 pool->used, pool->max, pool->free, pool->waiting,
					 pool->waiting == 1 ? "" : "s");
	appendStringInfo(html, " <span class=\"sub\">Environment %s, at least %d kept.</span></p>",
					 dbopt_environment_name(), limits->min);
}

static void
put_session(DbOptReportPage *page, uint64 row)
{
	StringInfo	html = &page->html;
	char	   *state = dbopt_owner_text(row, 3);
	bool		isnull;
	Datum		since = dbopt_owner_value(row, 6, &isnull);

	appendStringInfoString(html, "<tr><td class=\"n\">");
	dbopt_html_text(html, dbopt_owner_text(row, 1));
	appendStringInfoString(html, "</td><td>");
	dbopt_html_name(html, dbopt_owner_text(row, 2));
	appendStringInfoString(html, "</td><td>");
	dbopt_report_badge(html, strcmp(state, "busy") == 0 ? "accent" : "idle",
					   state);
	appendStringInfoString(html, "</td><td>");
	dbopt_html_text(html, dbopt_owner_text(row, 4));
	appendStringInfoString(html, " ");
	dbopt_html_name(html, dbopt_owner_text(row, 5));
	appendStringInfoString(html, "</td><td class=\"n\">");
	if (!isnull)
		dbopt_html_duration(html, (double)
							(page->now - DatumGetTimestampTz(since)));
	appendStringInfoString(html, "</td><td class=\"n\">");
	dbopt_html_count(html, (double) dbopt_owner_int64(row, 7));
	appendStringInfoString(html, "</td></tr>");
}

static void
put_sessions(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	uint64		rows = dbopt_owner_query(dbopt_sql("SELECT pid, role, state, job, handler, since, jobs_done"
												   " FROM @extschema@.dbopt_pool_sessions()"
												   " ORDER BY state = 'busy' DESC, role, pid"),
										 NULL);

	if (rows == 0)
		return;
	appendStringInfo(html, "<details><summary>" UINT64_FORMAT " session%s</summary><div class=\"wide\"><table>"
					 "<thead><tr><th class=\"n\">Process</th><th>Role</th><th>State</th><th>Job</th>"
					 "<th class=\"n\">For</th><th class=\"n\">Jobs done</th></tr></thead><tbody>",
					 rows, rows == 1 ? "" : "s");
	for (uint64 row = 0; row < Min(rows, MOST_SESSIONS); row++)
		put_session(page, row);
	appendStringInfoString(html, "</tbody></table></div></details>");
}

static void
put_events(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	uint64		rows = dbopt_owner_query(dbopt_sql("SELECT event, count FROM @extschema@.dbopt_pool_events()"),
										 NULL);

	appendStringInfoString(html, "<details><summary>Events since the server started</summary>"
						   "<dl class=\"counts\">");
	for (uint64 row = 0; row < rows; row++)
	{
		appendStringInfoString(html, "<div><dt>");
		dbopt_html_text(html, dbopt_owner_text(row, 1));
		appendStringInfoString(html, "</dt><dd>");
		dbopt_html_count(html, (double) dbopt_owner_int64(row, 2));
		appendStringInfoString(html, "</dd></div>");
	}
	appendStringInfoString(html, "</dl></details>");
}

void
dbopt_report_pool(DbOptReportPage *page)
{
	DbOptPoolLimits limits = dbopt_pool_limits();

	dbopt_report_section(page, "pool", "Session pool");
	put_summary(page, &limits);
	put_chart(page, &limits);
	put_sessions(page);
	put_events(page);
	appendStringInfoString(&page->html, "</section>");
}
