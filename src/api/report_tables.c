/*
 * report_tables.c
 *		dbopt_report(): declared indexes, and dead letters.
 *
 * Run by whoever calls it, as the extension's owner; the texts of errors are
 * left out where the caller may not see them.
 */
#include "postgres.h"

#include "api/report.h"
#include "api/report_html.h"
#include "catalog/pg_type_d.h"
#include "engine/catalog.h"
#include "engine/owner_spi.h"
#include "utils/timestamp.h"

#define MOST_INDEXES	100

/* ---- indexes ---- */

static const char *
index_kind(const char *status)
{
	if (strcmp(status, "valid") == 0)
		return "good";
	if (strcmp(status, "building") == 0)
		return "accent";
	if (strcmp(status, "queued") == 0 || strcmp(status, "inapplicable") == 0)
		return "idle";
	return strcmp(status, "missing") == 0 ||
		strcmp(status, "different") == 0 ? "warn" : "bad";
}

static void
put_size(StringInfo html, uint64 row)
{
	bool		isnull;
	Datum		size = dbopt_owner_value(row, 5, &isnull);

	appendStringInfoString(html, "<td class=\"n\" data-label=\"Size\">");
	if (!isnull)
		dbopt_html_bytes(html, DatumGetInt64(size));
	appendStringInfoString(html, "</td><td class=\"n\" data-label=\"Scans\">");
	if (!isnull)
		dbopt_html_count(html, (double) dbopt_owner_int64(row, 6));
	appendStringInfoString(html, "</td>");
}

static void
put_index(DbOptReportPage *page, uint64 row)
{
	StringInfo	html = &page->html;
	char	   *status = dbopt_owner_text(row, 3);
	char	   *reason = dbopt_owner_text(row, 4);
	char	   *progress = dbopt_owner_text(row, 8);

	appendStringInfoString(html, "<tr><th scope=\"row\"><span class=\"name\">");
	dbopt_html_name(html, dbopt_owner_text(row, 1));
	appendStringInfoString(html, "</span> ");
	dbopt_report_badge(html, index_kind(status), status);
	if (progress != NULL)
		appendStringInfo(html, " %s&#xA0;%%", progress);
	appendStringInfoString(html, "<p class=\"sub\">on ");
	dbopt_html_name(html, dbopt_owner_text(row, 2));
	if (reason != NULL)
	{
		appendStringInfoString(html, ": ");
		dbopt_html_name(html, reason);
	}
	appendStringInfoString(html, "</p>");
	if (page->all_errors && dbopt_owner_text(row, 7) != NULL)
	{
		appendStringInfoString(html, "<p class=\"error\">");
		dbopt_html_name(html, dbopt_owner_text(row, 7));
		appendStringInfoString(html, "</p>");
	}
	appendStringInfoString(html, "</th>");
	put_size(html, row);
	appendStringInfoString(html, "</tr>\n");
}

void
dbopt_report_indexes(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	uint64		shown;
	uint64		rows =
	dbopt_owner_query(dbopt_sql("SELECT name, table_name, status, left(reason, 300), size_bytes, scans,"
								" left(last_error, 300), round(progress::numeric),"
								" count(*) FILTER (WHERE status = 'inapplicable') OVER ()"
								" FROM @extschema@.dbopt_index_status()"
								" ORDER BY array_position('{failed,invalid,different,missing,building,queued,valid}', status),"
								" name"), NULL);

	dbopt_report_section(page, "indexes", "Declared indexes");
	shown = rows == 0 ? 0 : rows - (uint64) dbopt_owner_int64(0, 9);
	if (shown > 0)
		appendStringInfoString(html, "<table class=\"cards\"><thead><tr><th>Index</th>"
							   "<th class=\"n\">Size</th><th class=\"n\">Scans</th></tr></thead><tbody>\n");
	for (uint64 row = 0; row < Min(shown, MOST_INDEXES); row++)
		put_index(page, row);
	if (shown > 0)
		appendStringInfoString(html, "</tbody></table>");
	if (rows > shown)
		appendStringInfo(html, "<p class=\"sub\">" UINT64_FORMAT " that %s here: their tables or columns do not exist.</p>",
						 rows - shown, shown > 0 ? "cannot be built are left out" : "are declared cannot be built");
	if (rows == 0)
		appendStringInfoString(html, "<p class=\"empty\">No index is declared in dbopt_index.</p>");
	appendStringInfoString(html, "</section>");
}

/* ---- dead letters ---- */

static const char dead_letters_query[] =
"SELECT h.name, left(d.event_key, 120), left(d.event_type, 120),"
" d.attempts::bigint, d.error_code, left(d.error_message, 300), d.failed_at,"
" (pg_has_role($1, h.role_oid, 'USAGE') OR pg_has_role($1, 'pg_read_all_stats'::name, 'USAGE'))::text"
" FROM @extschema@.dbopt_dead_letter d JOIN @extschema@.dbopt_handler h USING (handler_id)"
" ORDER BY d.failed_at DESC LIMIT 20";

static void
put_dead_letter(DbOptReportPage *page, uint64 row)
{
	StringInfo	html = &page->html;
	bool		isnull;
	Datum		failed_at = dbopt_owner_value(row, 7, &isnull);

	appendStringInfoString(html, "<tr><th scope=\"row\"><span class=\"name\">");
	dbopt_html_name(html, dbopt_owner_text(row, 1));
	appendStringInfoString(html, "</span><p class=\"sub\">");
	dbopt_html_name(html, dbopt_owner_text(row, 3));
	appendStringInfoString(html, " ");
	dbopt_html_name(html, dbopt_owner_text(row, 2));
	appendStringInfoString(html, "</p></th><td data-label=\"Error\">");
	if (strcmp(dbopt_owner_text(row, 8), "true") == 0)
	{
		appendStringInfoString(html, "<code>");
		dbopt_html_text(html, dbopt_owner_text(row, 5));
		appendStringInfoString(html, "</code> ");
		dbopt_html_name(html, dbopt_owner_text(row, 6));
	}
	appendStringInfoString(html, "</td><td class=\"n\" data-label=\"Attempts\">");
	dbopt_html_count(html, (double) dbopt_owner_int64(row, 4));
	appendStringInfoString(html, "</td><td data-label=\"Given up\">");
	if (!isnull)
		dbopt_html_time(html, DatumGetTimestampTz(failed_at), page->now);
	appendStringInfoString(html, "</td></tr>\n");
}

void
dbopt_report_dead_letters(DbOptReportPage *page)
{
	StringInfo	html = &page->html;
	DbOptOwnerArgs args = {0};
	uint64		rows;

	dbopt_report_section(page, "dead-letters", "Dead letters");
	dbopt_owner_bind(&args, OIDOID, ObjectIdGetDatum(page->caller));
	rows = dbopt_owner_query(dbopt_sql(dead_letters_query), &args);
	if (rows == 0)
		appendStringInfoString(html, "<p class=\"empty\">No event was given up.</p>");
	else
	{
		appendStringInfoString(html, "<table class=\"cards\"><thead><tr><th>Handler, event</th><th>Error</th>"
							   "<th class=\"n\">Attempts</th><th>Given up</th></tr></thead><tbody>\n");
		for (uint64 row = 0; row < rows; row++)
			put_dead_letter(page, row);
		appendStringInfoString(html, "</tbody></table>");
		if ((uint64) page->dead > rows)
		{
			appendStringInfo(html, "<p class=\"sub\">The last " UINT64_FORMAT " of ",
							 rows);
			dbopt_html_count(html, (double) page->dead);
			appendStringInfoString(html, "; the view dbopt_dead_letters has all of them.</p>");
		}
	}
	appendStringInfoString(html, "</section>");
}
