/*
 * report_html.c
 *		Writing HTML: text that is escaped, and figures for people.
 *
 * Run by whoever calls dbopt_report().  Takes no locks.
 */
#include "postgres.h"

#include <math.h>

#include "api/report_html.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/timestamp.h"

/* Stands for what is no character, or none that HTML allows. */
#define REPLACEMENT			0xFFFD
#define REPLACEMENT_UTF8	"\xEF\xBF\xBD"

/* ---- text ---- */

static bool
is_allowed(pg_wchar code)
{
	return code == '\t' || code == '\n' ||
		(code >= 0x20 && code < 0x7F) ||
		(code >= 0xA0 && code < 0xD800) ||
		(code >= 0xE000 && code <= 0x10FFFF && (code & 0xFFFE) != 0xFFFE &&
		 (code < 0xFDD0 || code > 0xFDEF));
}

static void
write_character(StringInfo html, pg_wchar code)
{
	if (!is_allowed(code))
		code = REPLACEMENT;
	switch (code)
	{
		case '&':
			appendStringInfoString(html, "&amp;");
			break;
		case '<':
			appendStringInfoString(html, "&lt;");
			break;
		case '>':
			appendStringInfoString(html, "&gt;");
			break;
		case '"':
			appendStringInfoString(html, "&quot;");
			break;
		case '\'':
			appendStringInfoString(html, "&#39;");
			break;
		default:
			if (code < 0x80)
				appendStringInfoChar(html, (char) code);
			else
				appendStringInfo(html, "&#x%X;", code);
	}
}

/*
 * Names of databases and roles may be in any encoding, and not every character
 * of the database's is one of Unicode's.
 */
static char *
utf8_of(char *text)
{
	int			encoding = GetDatabaseEncoding();
	Oid			proc = encoding == PG_UTF8 || encoding == PG_SQL_ASCII ?
	InvalidOid : FindDefaultConversionProc(encoding, PG_UTF8);
	StringInfoData utf8;

	if (!OidIsValid(proc))
		return text;

	initStringInfo(&utf8);
	while (*text !='\0')
	{
		int			length = strlen(text);
		int			room = length * MAX_CONVERSION_GROWTH + 1;

		enlargeStringInfo(&utf8, room);
		text	  +=pg_do_encoding_conversion_buf(proc, encoding, PG_UTF8,
												  (unsigned char *) text, length,
												  (unsigned char *) utf8.data + utf8.len,
												  room, true);

		utf8.len += strlen(utf8.data + utf8.len);
		if (*text !='\0')
		{
			appendStringInfoString(&utf8, REPLACEMENT_UTF8);
			text	  +=Max(pg_encoding_verifymbchar(encoding, text,
													 strlen(text)), 1);
		}
	}
	return utf8.data;
}

/* In a database of encoding SQL_ASCII it may be anything. */
void
dbopt_html_text(StringInfo html, const char *text)
{
	const unsigned char *at;

	if (text == NULL)
		return;
	at = (const unsigned char *) utf8_of(unconstify(char *, text));

	while (*at != '\0')
	{
		int			length = pg_encoding_mblen(PG_UTF8, (const char *) at);

		if (strnlen((const char *) at, length) < length ||
			!pg_utf8_islegal(at, length))
		{
			write_character(html, REPLACEMENT);
			at++;
			continue;
		}
		write_character(html, utf8_to_unicode(at));
		at += length;
	}
}

void
dbopt_html_name(StringInfo html, const char *name)
{
	if (name == NULL || name[0] == '\0')
		return;
	appendStringInfoString(html, "<bdi>");
	dbopt_html_text(html, name);
	appendStringInfoString(html, "</bdi>");
}

/* ---- figures ---- */

/* With a comma before each three digits. */
static void
write_grouped(StringInfo html, int64 number)
{
	char		digits[32];
	int			length = snprintf(digits, sizeof(digits), INT64_FORMAT, number);

	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0)
			appendStringInfoChar(html, ',');
		appendStringInfoChar(html, digits[i]);
	}
}

/* With three significant digits, below 1,000. */
static void
write_short(StringInfo html, double number, const char *unit)
{
	int			decimals = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;

	appendStringInfo(html, "%.*f&#xA0;%s", decimals, number, unit);
}

void
dbopt_html_count(StringInfo html, double count)
{
	static const char *const units[] = {"M", "G", "T", "P", "E"};
	int			unit = 0;

	if (count < 1e7)
	{
		write_grouped(html, (int64) Max(count, 0));
		return;
	}
	for (count /= 1e6; count >= 999.5 && unit < lengthof(units) - 1; unit++)
		count /= 1000;
	write_short(html, count, units[unit]);
}

/* Two units that follow each other, the second one only where it says more. */
static void
write_pair(StringInfo html, int64 number, int64 size, const char *first,
		   const char *second)
{
	appendStringInfo(html, INT64_FORMAT "&#xA0;%s", number / size, first);
	if (number % size != 0 && number / size < 100)
		appendStringInfo(html, " " INT64_FORMAT "&#xA0;%s", number % size,
						 second);
}

void
dbopt_html_duration(StringInfo html, double microseconds)
{
	double		seconds = microseconds / 1e6;

	if (microseconds < 1)
		appendStringInfoString(html, microseconds > 0 ? "&lt;&#xA0;1&#xA0;&#xB5;s" :
							   "0&#xA0;s");
	else if (microseconds < 999.5)
		appendStringInfo(html, "%.0f&#xA0;&#xB5;s", microseconds);
	else if (microseconds < 999500)
		appendStringInfo(html, "%.*f&#xA0;ms", microseconds < 9950 ? 1 : 0,
						 microseconds / 1000);
	else if (seconds < 59.5)
		appendStringInfo(html, "%.*f&#xA0;s", seconds < 9.95 ? 1 : 0, seconds);
	else if (seconds < 3600)
		write_pair(html, (int64) seconds, 60, "min", "s");
	else if (seconds < 86400)
		write_pair(html, (int64) (seconds / 60), 60, "h", "min");
	else
		write_pair(html, (int64) (Min(seconds, 1e15) / 3600), 24, "d", "h");
}

void
dbopt_html_bytes(StringInfo html, int64 bytes)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB"};
	double		size = (double) bytes / 1024;
	int			unit = 0;

	if (bytes < 1024)
	{
		appendStringInfo(html, INT64_FORMAT "&#xA0;B", bytes);
		return;
	}
	for (; size >= 999.5 && unit < lengthof(units) - 1; unit++)
		size /= 1024;
	appendStringInfo(html, "%.*f&#xA0;%s", size < 9.95 ? 1 : 0, size,
					 units[unit]);
}

void
dbopt_html_share(StringInfo html, double part, double whole)
{
	double		share = whole > 0 ? 100 * part / whole : 0;
	int			decimals = share == 0 || share >= 9.95 ? 0 :
	share >= 0.95 ? 1 : 2;

	/* Hardly anything is not nothing, and hardly all is not all. */
	if (share > 0 && share < 0.01)
		appendStringInfoString(html, "&lt;&#xA0;0.01&#xA0;%");
	else if (share > 99 && share < 100)
		appendStringInfo(html, "%.1f&#xA0;%%", floor(share * 10) / 10);
	else
		appendStringInfo(html, "%.*f&#xA0;%%", decimals, share);
}

/* ---- times ---- */

char *
dbopt_html_strftime(TimestampTz time, const char *format)
{
	pg_time_t	seconds = timestamptz_to_time_t(time);
	char	   *written = palloc0(128);

	pg_strftime(written, 128, format,
				pg_localtime(&seconds, session_timezone));
	return written;
}

void
dbopt_html_time(StringInfo html, TimestampTz time, TimestampTz now)
{
	pg_time_t	seconds;
	char		machine[64];
	bool		today;

	if (TIMESTAMP_NOT_FINITE(time))
	{
		appendStringInfoString(html, "never");
		return;
	}
	seconds = timestamptz_to_time_t(time);
	pg_strftime(machine, sizeof(machine), "%Y-%m-%dT%H:%M:%SZ",
				pg_gmtime(&seconds));
	today = strcmp(dbopt_html_strftime(time, "%Y-%m-%d"),
				   dbopt_html_strftime(now, "%Y-%m-%d")) == 0;
	appendStringInfo(html, "<time datetime=\"%s\">", machine);
	dbopt_html_text(html,
					dbopt_html_strftime(time, today ? "%H:%M:%S %Z" :
										"%Y-%m-%d %H:%M:%S %Z"));
	appendStringInfoString(html, "</time>");
}
