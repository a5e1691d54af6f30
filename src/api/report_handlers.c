/*
 * report_handlers.c
 *		dbopt_report(): the handlers, those in trouble first.
 *
 * Run by whoever calls it.  A row of the table becomes a card where the window
 * is narrow; the names of the columns are repeated there from data-label.
 */
#include "postgres.h"

#include "api/report.h"
#include "api/report_chart.h"
#include "api/report_html.h"

/* Of thousands of handlers, the quiet ones are left out. */
#define MOST_HANDLERS	300

static void
begin_figure(StringInfo html, const char *label, bool quiet)
{
	appendStringInfo(html, "<td class=\"n%s\" data-label=\"%s\">",
					 quiet ? " quiet" : "", label);
}

static void
put_count(StringInfo html, const char *label, int64 count, bool bad)
{
	begin_figure(html, label, count == 0);
	if (bad && count > 0)
		appendStringInfoString(html, "<b class=\"bad\">");
	dbopt_html_count(html, (double) count);
	if (bad && count > 0)
		appendStringInfoString(html, "</b>");
	appendStringInfoString(html, "</td>");
}

/* The state, where it is worth a word. */
static void
put_states(StringInfo html, const DbOptReportHandler *handler)
{
	if (strcmp(handler->state, "ready") != 0)
		dbopt_report_badge(html, strcmp(handler->state, "broken") == 0 ?
						   "bad" : "warn", handler->state);
	if (handler->paused)
		dbopt_report_badge(html, "idle", "paused");
	if (handler->shared.breaker.state == DBOPT_BREAKER_OPEN)
		dbopt_report_badge(html, "bad", "breaker open");
	else if (handler->shared.breaker.state == DBOPT_BREAKER_HALF_OPEN)
		dbopt_report_badge(html, "warn", "breaker on trial");
}

static void
put_last_error(DbOptReportPage *page, const DbOptReportHandler *handler)
{
	const DbOptHandlerState *shared = &handler->shared;
	StringInfo	html = &page->html;

	if (shared->last_error_at == 0)
		return;
	appendStringInfoString(html, "<p class=\"error\">Last error ");
	dbopt_html_time(html, shared->last_error_at, page->now);
	if (handler->shows_errors)
	{
		appendStringInfoString(html, ": <code>");
		dbopt_html_text(html, shared->last_error_code);
		appendStringInfoString(html, "</code> ");
		dbopt_html_name(html, shared->last_error);
	}
	appendStringInfoString(html, "</p>");
}

static void
put_name(DbOptReportPage *page, const DbOptReportHandler *handler)
{
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<th scope=\"row\"><span class=\"name\">");
	dbopt_html_name(html, handler->name);
	appendStringInfoString(html, "</span> ");
	put_states(html, handler);
	appendStringInfoString(html, "<p class=\"sub\">");
	dbopt_html_name(html, handler->event_type);
	appendStringInfoString(html, " of ");
	dbopt_html_name(html, handler->events);
	appendStringInfoString(html, "</p>");
	if (handler->reason != NULL)
	{
		appendStringInfoString(html, "<p class=\"error\">");
		dbopt_html_name(html, handler->reason);
		appendStringInfoString(html, "</p>");
	}
	put_last_error(page, handler);
	appendStringInfoString(html, "</th>");
}

static void
put_times(StringInfo html, const DbOptHistogram *times)
{
	double		median = dbopt_histogram_quantile(times, 0.5);

	begin_figure(html, "Time p50, p95", median == 0);
	if (median > 0)
	{
		dbopt_html_duration(html, median);
		appendStringInfoString(html, "<p class=\"sub\">");
		dbopt_html_duration(html, dbopt_histogram_quantile(times, 0.95));
		appendStringInfoString(html, "</p>");
	}
	else
		appendStringInfoString(html, "&#x2013;");
	appendStringInfoString(html, "</td>");
}

static void
put_waiting(StringInfo html, const DbOptReportHandler *handler)
{
	begin_figure(html, "Waiting", handler->waiting == 0);
	if (handler->waiting < 0)
		appendStringInfoString(html, "unknown");
	else
		dbopt_html_count(html, (double) handler->waiting);
	if (handler->lag >= 0)
	{
		appendStringInfoString(html, "<p class=\"sub\">for ");
		dbopt_html_duration(html, (double) handler->lag);
		appendStringInfoString(html, "</p>");
	}
	appendStringInfoString(html, "</td>");
}

static void
put_retrying(DbOptReportPage *page, const DbOptReportHandler *handler)
{
	StringInfo	html = &page->html;

	begin_figure(html, "Retrying", handler->retrying == 0);
	dbopt_html_count(html, (double) handler->retrying);
	if (handler->next_retry_at != 0)
	{
		int64		ahead = handler->next_retry_at - page->now;

		appendStringInfoString(html, "<p class=\"sub\">");
		if (ahead > 0)
		{
			appendStringInfoString(html, "in ");
			dbopt_html_duration(html, (double) ahead);
		}
		else
			appendStringInfoString(html, "due");
		appendStringInfoString(html, "</p>");
	}
	appendStringInfoString(html, "</td>");
}

static void
put_handler(DbOptReportPage *page, const DbOptReportHandler *handler)
{
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<tr>");
	put_name(page, handler);
	appendStringInfoString(html, "<td class=\"hour\" data-label=\"Last hour\">");
	dbopt_chart_spark(html, "Events of the last hour, minute by minute",
					  handler->minutes);
	appendStringInfoString(html, "</td>");
	put_count(html, "Delivered", handler->successes, false);
	put_count(html, "Failed", handler->failures, true);
	put_times(html, &handler->shared.counters.times);
	put_waiting(html, handler);
	put_retrying(page, handler);
	put_count(html, "Dead letters", handler->dead, true);
	appendStringInfoString(html, "</tr>\n");
}

static void
put_empty(StringInfo html)
{
	appendStringInfoString(html, "<p class=\"empty\">No handler is registered yet. One is with"
						   " <code>SELECT dbopt_register_handler('name', 'EVENT.TYPE', 'function(events)');</code></p>");
}

void
dbopt_report_handlers(DbOptReportPage *page)
{
	StringInfo	html = &page->html;

	dbopt_report_section(page, "handlers", "Handlers");
	if (page->nhandlers == 0)
		put_empty(html);
	else
	{
		appendStringInfoString(html, "<p class=\"sub\">Delivered and failed: events in the last hour."
							   " Time: in the handler, the median and below it what 95&#xA0;% stay below.</p>"
							   "<table class=\"cards\"><thead><tr><th>Handler</th><th>Last hour</th>"
							   "<th class=\"n\">Delivered</th><th class=\"n\">Failed</th><th class=\"n\">Time</th>"
							   "<th class=\"n\">Waiting</th><th class=\"n\">Retrying</th><th class=\"n\">Dead letters</th>"
							   "</tr></thead><tbody>\n");
		for (int i = 0; i < Min(page->nhandlers, MOST_HANDLERS); i++)
			put_handler(page, &page->handlers[i]);
		appendStringInfoString(html, "</tbody></table>");
		if (page->nhandlers > MOST_HANDLERS)
			appendStringInfo(html, "<p class=\"sub\">%d quieter handlers are left out;"
							 " dbopt_retry_stats() has all of them.</p>",
							 page->nhandlers - MOST_HANDLERS);
	}
	appendStringInfoString(html, "</section>");
}
