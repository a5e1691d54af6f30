/*
 * report_breakers.c
 *		dbopt_report(): the circuit breakers' last hour.
 *
 * Run by whoever calls it, on copies.  A breaker that was closed all the time
 * is counted and not drawn.  Their logs begin anew with the server.
 */
#include "postgres.h"

#include "api/report.h"
#include "api/report_html.h"
#include "utils/timestamp.h"

#define MOST_BREAKERS	50
#define MOST_CHANGES	20
#define WIDTH			3600	/* a second is one wide */

/* A breaker: the database's, or a handler's. */
typedef struct NamedBreaker
{
	const char *name;
	const DbOptBreaker *breaker;
	const DbOptBreakerLog *log;
} NamedBreaker;

typedef struct NamedChange
{
	const char *name;
	const DbOptBreakerChange *change;
} NamedChange;

static const char *const kinds[] = {
	[DBOPT_BREAKER_CLOSED] = "good",
	[DBOPT_BREAKER_OPEN] = "bad",
	[DBOPT_BREAKER_HALF_OPEN] = "warn"
};

static const char *const states[] = {
	[DBOPT_BREAKER_CLOSED] = "closed",
	[DBOPT_BREAKER_OPEN] = "open",
	[DBOPT_BREAKER_HALF_OPEN] = "on trial"
};

static bool
is_interesting(const NamedBreaker *named, TimestampTz now)
{
	const DbOptBreakerLog *log = named->log;

	return named->breaker->state != DBOPT_BREAKER_CLOSED ||
		(log->count > 0 &&
		 log->changes[log->count - 1].at > now - USECS_PER_HOUR);
}

/* Second of the hour; what is older is where the hour begins. */
static int
second_of(TimestampTz time, TimestampTz now)
{
	int64		seconds = WIDTH - (now - time) / USECS_PER_SEC;

	return (int) Min(Max(seconds, 0), WIDTH);
}

/* What is short can be seen, too. */
static void
put_span(StringInfo html, int state, int from, int to)
{
	int			width = to - from;

	if (width <= 0)
		return;
	if (state != DBOPT_BREAKER_CLOSED)
		width = Max(width, WIDTH / 200);
	appendStringInfo(html, "<rect class=\"%s\" x=\"%d\" y=\"0\" width=\"%d\" height=\"10\"/>",
					 kinds[state], Min(from, WIDTH - width), width);
}

/*
 * Closed spans first, so that they cover no other one.  What was before the
 * server started, is not known.
 */
static void
put_spans(StringInfo html, const NamedBreaker *named, TimestampTz now,
		  bool closed)
{
	const DbOptBreakerLog *log = named->log;
	int			state = log->count > 0 ? log->changes[0].before :
	(int) named->breaker->state;
	int			from = second_of(dbopt_shared->started_at, now);

	for (int i = 0; i <= log->count; i++)
	{
		int			to = i < log->count ?
		second_of(log->changes[i].at, now) : WIDTH;

		if ((state == DBOPT_BREAKER_CLOSED) == closed)
			put_span(html, state, from, Max(to, from + (closed ? 0 : 1)));
		from = to;
		if (i < log->count)
			state = log->changes[i].after;
	}
}

static void
put_breaker(DbOptReportPage *page, const NamedBreaker *named)
{
	const DbOptBreaker *breaker = named->breaker;
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<div class=\"lane\"><span class=\"name\">");
	dbopt_html_name(html, named->name);
	appendStringInfoString(html, "</span> ");
	dbopt_report_badge(html, kinds[breaker->state], states[breaker->state]);
	if (breaker->state == DBOPT_BREAKER_OPEN)
	{
		appendStringInfoString(html, " <span class=\"sub\">");
		if (breaker->tripped_by_hand)
			appendStringInfoString(html, "by hand, until it is reset");
		else
		{
			appendStringInfoString(html, "until ");
			dbopt_html_time(html, breaker->retry_at, page->now);
		}
		appendStringInfoString(html, "</span>");
	}
	appendStringInfo(html, "<svg viewBox=\"0 0 %d 10\" preserveAspectRatio=\"none\" role=\"img\""
					 " aria-label=\"States in the last hour\">", WIDTH);
	put_spans(html, named, page->now, true);
	put_spans(html, named, page->now, false);
	appendStringInfoString(html, "</svg></div>\n");
}

static int
compare_changes(const void *left, const void *right)
{
	const DbOptBreakerChange *a = ((const NamedChange *) left)->change;
	const DbOptBreakerChange *b = ((const NamedChange *) right)->change;

	return a->at == b->at ? 0 : a->at < b->at ? 1 : -1;
}

static void
put_change(DbOptReportPage *page, const NamedChange *named)
{
	const DbOptBreakerChange *change = named->change;
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<tr><td>");
	dbopt_html_time(html, change->at, page->now);
	appendStringInfoString(html, "</td><td>");
	dbopt_html_name(html, named->name);
	appendStringInfoString(html, "</td><td>");
	dbopt_report_badge(html, kinds[change->after], states[change->after]);
	if (change->by_hand)
		appendStringInfoString(html, " by hand");
	if (change->failed_trials > 0)
		appendStringInfo(html, " %u trial%s failed since",
						 change->failed_trials,
						 change->failed_trials == 1 ? "" : "s");
	appendStringInfoString(html, "</td></tr>");
}

static void
put_changes(DbOptReportPage *page, const NamedBreaker *breakers, int count)
{
	NamedChange *changes = palloc(sizeof(NamedChange) * count *
								  DBOPT_BREAKER_CHANGES);
	StringInfo	html = &page->html;
	int			nchanges = 0;

	for (int i = 0; i < count; i++)
		for (int n = 0; n < breakers[i].log->count; n++)
		{
			changes[nchanges].name = breakers[i].name;
			changes[nchanges++].change = &breakers[i].log->changes[n];
		}
	if (nchanges == 0)
		return;
	qsort(changes, nchanges, sizeof(NamedChange), compare_changes);
	appendStringInfoString(html, "<h3>Changes</h3><table><thead><tr><th>Time</th>"
						   "<th>Breaker</th><th>State</th></tr></thead><tbody>");
	for (int i = 0; i < Min(nchanges, MOST_CHANGES); i++)
		put_change(page, &changes[i]);
	appendStringInfoString(html, "</tbody></table>");
	if (nchanges > MOST_CHANGES)
		appendStringInfo(html, "<p class=\"sub\">The last %d; the server log has all of them.</p>",
						 MOST_CHANGES);
}

static void
name_breakers(const DbOptReportPage *page, NamedBreaker *breakers)
{
	breakers[0].name = "database";
	breakers[0].breaker = &page->database_breaker.breaker;
	breakers[0].log = &page->database_breaker.breaker_log;
	for (int i = 0; i < page->nhandlers; i++)
	{
		breakers[i + 1].name = page->handlers[i].name;
		breakers[i + 1].breaker = &page->handlers[i].shared.breaker;
		breakers[i + 1].log = &page->handlers[i].shared.breaker_log;
	}
}

void
dbopt_report_breakers(DbOptReportPage *page)
{
	int			count = page->nhandlers + 1;
	NamedBreaker *breakers = palloc(count * sizeof(NamedBreaker));
	StringInfo	html = &page->html;
	int			drawn = 0;
	int			quiet = 0;

	name_breakers(page, breakers);
	dbopt_report_section(page, "breakers", "Circuit breakers");
	for (int i = 0; i < count; i++)
	{
		if (!is_interesting(&breakers[i], page->now))
			quiet++;
		else if (drawn++ < MOST_BREAKERS)
			put_breaker(page, &breakers[i]);
	}
	if (drawn > MOST_BREAKERS)
		appendStringInfo(html, "<p class=\"sub\">%d more have changed.</p>",
						 drawn - MOST_BREAKERS);
	if (quiet > 0)
	{
		dbopt_report_badge(html, "good", "closed");
		appendStringInfo(html, " <span class=\"sub\">throughout the last hour: %s%d breaker%s</span>",
						 drawn > 0 ? "the other " : "", quiet,
						 quiet == 1 ? "" : "s");
	}
	put_changes(page, breakers, count);
	appendStringInfoString(html, "</section>");
}
