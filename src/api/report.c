/*
 * report.c
 *		dbopt_report(): one HTML page about this database's delivery.
 *
 * Run by whoever may call it; holds no lock but those of the tables it reads.
 * The page needs nothing from elsewhere, and its content security policy lets
 * nothing in: no script, and no style but the one whose hash it names.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/report.h"
#include "api/report_html.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type_d.h"
#include "commands/dbcommands.h"
#include "engine/catalog.h"
#include "engine/config.h"
#include "engine/owner_spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dbopt_report);

void
dbopt_report_section(DbOptReportPage *page, const char *id, const char *title)
{
	appendStringInfo(&page->html, "<section id=\"%s\"><h2>%s</h2>", id, title);
}

/* A sign and a word, so that it does not take colours to tell. */
void
dbopt_report_badge(StringInfo html, const char *kind, const char *text)
{
	const char *sign = strcmp(kind, "good") == 0 ? "&#x2713;" :
	strcmp(kind, "warn") == 0 ? "!" :
	strcmp(kind, "bad") == 0 ? "&#x2715;" : "&#x2022;";

	appendStringInfo(html, "<span class=\"badge %s\"><span aria-hidden=\"true\">%s</span> ",
					 kind, sign);
	dbopt_html_text(html, text);
	appendStringInfoString(html, "</span>");
}

/* ---- health ---- */

const char *
dbopt_report_health_kind(const char *status)
{
	return strcmp(status, "healthy") == 0 ? "good" :
		strcmp(status, "critical") == 0 ? "bad" : "warn";
}

void
dbopt_report_health(DbOptReportPage *page)
{
	StringInfo	html = &page->html;

	dbopt_report_section(page, "health", "Health");
	appendStringInfoString(html, "<dl class=\"checks\">");
	for (int i = 1; i < page->nchecks; i++)
	{
		const DbOptReportCheck *check = &page->checks[i];

		appendStringInfoString(html, "<div><dt>");
		dbopt_report_badge(html, dbopt_report_health_kind(check->status),
						   check->status);
		appendStringInfoString(html, " ");
		for (char *at = check->name; *at != '\0'; at++)
			if (*at == '_')
				*at = ' ';
		dbopt_html_text(html, check->name);
		appendStringInfoString(html, "</dt><dd>");
		dbopt_html_text(html, check->detail);
		appendStringInfoString(html, "</dd></div>");
	}
	appendStringInfoString(html, "</dl></section>");
}

/* ---- the head ---- */

static void
put_banner(StringInfo html, const char *kind, const char *text)
{
	appendStringInfo(html, "<p class=\"banner %s\">%s</p>", kind, text);
}

static void
put_banners(DbOptReportPage *page)
{
	StringInfo	html = &page->html;

	if (page->standby)
		put_banner(html, "idle", "<b>This server is a standby.</b> Nothing is delivered here before it is promoted;"
				   " what is stored is what its primary has sent.");
	else if (page->restored)
		put_banner(html, "warn", "<b>This database was restored or copied, and is paused.</b>"
				   " <code>SELECT dbopt_resume();</code> makes it deliver its events.");
	else if (page->paused)
		put_banner(html, "warn", "<b>Delivery is paused.</b>"
				   " <code>SELECT dbopt_resume();</code> lets it go on.");
	else if (page->scheduler_pid == 0)
		put_banner(html, "bad", "<b>No scheduler is running for this database.</b>"
				   " The server log tells why; the launcher starts it again.");
}

static void
put_header(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	const char *status = page->checks[0].status;

	appendStringInfoString(html, "<header><p class=\"brand\">dbopt</p><h1>");
	dbopt_html_name(html, get_database_name(MyDatabaseId));
	appendStringInfoString(html, "</h1>");
	dbopt_report_badge(html, dbopt_report_health_kind(status), status);
	appendStringInfoString(html, "<p class=\"sub\">");
	appendStringInfoString(html, "As of ");
	dbopt_html_text(html, dbopt_html_strftime(page->now, "%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)"));
	appendStringInfoString(html, ". Server started ");
	dbopt_html_duration(html, (double) (page->now -
										dbopt_shared->started_at));
	appendStringInfoString(html, " ago.</p></header>\n");
	put_banners(page);
}

/* ---- the figures that matter most ---- */

static void
begin_tile(StringInfo html, const char *title, const char *kind)
{
	appendStringInfo(html, "<div class=\"tile %s\"><dt>%s</dt><dd>", kind, title);
}

static void
tile_note(StringInfo html)
{
	appendStringInfoString(html, " <span class=\"sub\">");
}

static void
end_tile(StringInfo html)
{
	appendStringInfoString(html, "</span></dd></div>");
}

static void
put_event_tiles(DbOptReportPage *page)
{
	const DbOptReportHour *hour = &page->hour;
	StringInfo	html = &page->html;
	double		attempts = (double) hour->successes + hour->failures;

	begin_tile(html, "Delivered", "");
	dbopt_html_count(html, (double) hour->successes);
	tile_note(html);
	appendStringInfoString(html, "in the last hour");
	end_tile(html);

	begin_tile(html, "Failed attempts", hour->failures > 0 ? "bad" : "");
	dbopt_html_count(html, (double) hour->failures);
	tile_note(html);
	dbopt_html_share(html, (double) hour->failures, attempts);
	appendStringInfoString(html, " of all attempts");
	end_tile(html);

	begin_tile(html, "Time in handlers", "");
	if (attempts > 0)
		dbopt_html_duration(html, dbopt_histogram_quantile(&hour->times, 0.5));
	else
		appendStringInfoString(html, "&#x2013;");
	tile_note(html);
	appendStringInfoString(html, "median");
	if (attempts > 0)
	{
		appendStringInfoString(html, "; p99 ");
		dbopt_html_duration(html, dbopt_histogram_quantile(&hour->times, 0.99));
	}
	end_tile(html);
}

/* How many there are, and of these the ones that do not run. */
static void
put_handlers_tile(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	int			paused = 0;
	int			unready = 0;

	for (int i = 0; i < page->nhandlers; i++)
	{
		if (strcmp(page->handlers[i].state, "ready") != 0)
			unready++;
		else if (page->handlers[i].paused)
			paused++;
	}
	begin_tile(html, "Handlers", unready > 0 ? "bad" : "");
	dbopt_html_count(html, page->nhandlers);
	tile_note(html);
	if (unready > 0)
		appendStringInfo(html, "%d not ready%s", unready, paused > 0 ? ", " : "");
	if (paused > 0)
		appendStringInfo(html, "%d paused", paused);
	if (unready == 0 && paused == 0)
		appendStringInfoString(html, "registered");
	end_tile(html);
}

static void
put_backlog_tiles(DbOptReportPage *page)
{
	StringInfo	html = &page->html;

	begin_tile(html, "Waiting", "");
	dbopt_html_count(html, (double) page->waiting);
	tile_note(html);
	if (page->lag >= 0)
	{
		appendStringInfoString(html, "the oldest for ");
		dbopt_html_duration(html, (double) page->lag);
	}
	else
		appendStringInfoString(html, "not yet delivered");
	end_tile(html);

	begin_tile(html, "Retrying", page->retrying > 0 ? "warn" : "");
	dbopt_html_count(html, (double) page->retrying);
	tile_note(html);
	appendStringInfoString(html, "failed, tried again");
	end_tile(html);

	begin_tile(html, "Dead letters", page->dead > 0 ? "bad" : "");
	dbopt_html_count(html, (double) page->dead);
	tile_note(html);
	appendStringInfoString(html, "given up");
	end_tile(html);

	begin_tile(html, "Sessions", page->pool.waiting > 0 ? "warn" : "");
	dbopt_html_count(html, (double) page->pool.used);
	tile_note(html);
	appendStringInfo(html, "at work, of " INT64_FORMAT " at most",
					 page->pool.max);
	end_tile(html);
}

void
dbopt_report_summary(DbOptReportPage *page)
{
	appendStringInfoString(&page->html, "<dl class=\"tiles\">");
	put_event_tiles(page);
	put_backlog_tiles(page);
	put_handlers_tile(page);
	appendStringInfoString(&page->html, "</dl>\n"
						   "<nav><a href=\"#health\">Health</a> <a href=\"#hour\">Last hour</a> <a href=\"#handlers\">Handlers</a>"
						   " <a href=\"#breakers\">Breakers</a> <a href=\"#pool\">Pool</a> <a href=\"#indexes\">Indexes</a>"
						   " <a href=\"#dead-letters\">Dead letters</a></nav>\n");
}

/* ---- the page ---- */

static char *
style_hash(const char *style)
{
	DbOptOwnerArgs args = {0};

	dbopt_owner_bind_text(&args, style);
	dbopt_owner_query("SELECT encode(sha256(convert_to($1, 'UTF8')), 'base64')",
					  &args);
	return dbopt_owner_text(0, 1);
}

static void
begin_page(DbOptReportPage *page)
{
	const char *style = dbopt_report_style();
	StringInfo	html = &page->html;

	appendStringInfoString(html, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\"><head><meta charset=\"UTF-8\"/>"
						   "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"
						   " base-uri 'none'; form-action 'none'; style-src 'sha256-");
	appendStringInfoString(html, style_hash(style));
	appendStringInfoString(html, "'\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
						   "<meta name=\"color-scheme\" content=\"light dark\"/><meta name=\"referrer\" content=\"no-referrer\"/><title>dbopt: ");
	dbopt_html_text(html, get_database_name(MyDatabaseId));
	appendStringInfo(html, "</title><style>%s</style></head><body>\n", style);
}

static void
put_footer(DbOptReportPage *page)
{
	StringInfo	html = &page->html;

	dbopt_owner_query("SELECT extversion, current_setting('server_version'), current_setting('TimeZone')"
					  " FROM pg_extension WHERE extname = 'dbopt'", NULL);
	appendStringInfoString(html, "<footer class=\"sub\"><p>dbopt ");
	dbopt_html_text(html, dbopt_owner_text(0, 1));
	appendStringInfoString(html, " on PostgreSQL ");
	dbopt_html_text(html, dbopt_owner_text(0, 2));
	appendStringInfoString(html, ". Times are of time zone ");
	dbopt_html_text(html, dbopt_owner_text(0, 3));
	appendStringInfoString(html, ". The last hour begins anew when the server starts;"
						   " a minute is complete when the next one has begun.</p></footer></body></html>");
}

static void
write_page(DbOptReportPage *page)
{
	dbopt_report_gather(page);
	begin_page(page);
	put_header(page);
	appendStringInfoString(&page->html, "<main>");
	dbopt_report_summary(page);
	dbopt_report_health(page);
	dbopt_report_hour(page);
	dbopt_report_handlers(page);
	dbopt_report_breakers(page);
	dbopt_report_pool(page);
	dbopt_report_indexes(page);
	dbopt_report_dead_letters(page);
	appendStringInfoString(&page->html, "</main>\n");
	put_footer(page);
}

/* dbopt_report() -> text */
Datum
dbopt_report(PG_FUNCTION_ARGS)
{
	DbOptReportPage *page = palloc0(sizeof(DbOptReportPage));
	const DbOptConfig *config;
	DbOptOwnerScope scope;

	dbopt_require_preload();
	initStringInfo(&page->html);
	page->now = GetCurrentTimestamp();
	page->caller = GetUserId();
	page->all_errors = has_privs_of_role(page->caller, ROLE_PG_READ_ALL_STATS);
	page->standby = RecoveryInProgress();
	config = dbopt_config_get();
	page->paused = config->paused;
	page->restored = config->foreign_identity;

	dbopt_owner_begin(&scope);
	write_page(page);
	dbopt_owner_end(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page->html.data,
											  page->html.len));
}
