/*
 * report_html.h
 *		Writing HTML: text that is escaped, and figures for people.
 *
 * Whatever comes from outside goes through dbopt_html_text(), in text and in
 * attributes alike, and all of the page is ASCII: other characters are written
 * by their numbers, so that no encoding on the way to the file can hurt it.
 */
#ifndef DBOPT_REPORT_HTML_H
#define DBOPT_REPORT_HTML_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* Text in the server's encoding; NULL writes nothing. */
extern void dbopt_html_text(StringInfo html, const char *text);

/* The same in an element that keeps its direction of writing to itself. */
extern void dbopt_html_name(StringInfo html, const char *name);

/* 0 to 9,999,999 in full; from there on as 12.3 M. */
extern void dbopt_html_count(StringInfo html, double count);

/* Microseconds, as 340 us (with a mu), 1.2 ms, 3 min 20 s, 2 d 4 h. */
extern void dbopt_html_duration(StringInfo html, double microseconds);
extern void dbopt_html_bytes(StringInfo html, int64 bytes);

/* 12 %, 0.03 %; of nothing: 0 %. */
extern void dbopt_html_share(StringInfo html, double part, double whole);

/*
 * A time with its zone, and its day when that is not the day of "now".
 */
extern void dbopt_html_time(StringInfo html, TimestampTz time,
							TimestampTz now);

/* In the session's time zone, by a format of strftime(); palloc'd. */
extern char *dbopt_html_strftime(TimestampTz time, const char *format);

#endif							/* DBOPT_REPORT_HTML_H */
