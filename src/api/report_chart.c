/*
 * report_chart.c
 *		Charts of the last hour, a minute a column, as inline SVG.
 *
 * Run by whoever calls dbopt_report().  Takes no locks.  No style attributes:
 * the page's content security policy allows none.
 */
#include "postgres.h"

#include <math.h>

#include "api/report_chart.h"
#include "api/report_html.h"
#include "utils/timestamp.h"

#define COLUMN		10			/* a minute's width */
#define WIDTH		(DBOPT_MINUTES * COLUMN)
#define LEAST		12			/* what is not nothing can be seen */
#define SPARK_HEIGHT 100

double
dbopt_chart_top(double most)
{
	double		power = pow(10, floor(log10(Max(most, 1))));

	if (most <= power)
		return Max(power, 2);
	return most <= 2 * power ? 2 * power : most <= 5 * power ? 5 * power :
		10 * power;
}

DbOptChartAxis
dbopt_chart_counts(double top)
{
	DbOptChartAxis axis = {.count = 3};

	for (int i = 0; i < axis.count; i++)
	{
		StringInfoData label;
		double		value = top * (axis.count - 1 - i) / (axis.count - 1);

		initStringInfo(&label);
		if (value == floor(value))
			dbopt_html_count(&label, value);
		axis.labels[i] = label.data;
	}
	return axis;
}

void
dbopt_chart_begin(StringInfo html, const char *label,
				  const DbOptChartAxis *axis)
{
	appendStringInfoString(html, "<div class=\"plot\"><div class=\"y\">");
	for (int i = 0; i < axis->count; i++)
		appendStringInfo(html, "<span>%s</span>", axis->labels[i]);
	appendStringInfo(html, "</div><svg viewBox=\"0 0 %d %d\""
					 " preserveAspectRatio=\"none\" role=\"img\" aria-label=\"",
					 WIDTH, DBOPT_CHART_HEIGHT);
	dbopt_html_text(html, label);
	appendStringInfoString(html, "\">");
	for (int i = 0; i < axis->count; i++)
		dbopt_chart_line(html, i == axis->count - 1 ? "base" : "grid",
						 (double) DBOPT_CHART_HEIGHT *
						 (axis->count - 1 - i) / (axis->count - 1));
}

static int
y_of(double height)
{
	return DBOPT_CHART_HEIGHT -
		(int) rint(Min(Max(height, 0), DBOPT_CHART_HEIGHT));
}

void
dbopt_chart_bars(StringInfo html, const char *kind, const double *from,
				 const double *to)
{
	appendStringInfo(html, "<path class=\"%s\" d=\"M0 0", kind);
	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		double		bottom = from == NULL ? 0 : from[i];

		if (to[i] > bottom)
			appendStringInfo(html, "M%d %dV%dh%dV%dz", i * COLUMN + 1,
							 y_of(bottom),
							 y_of(Max(to[i], bottom + LEAST)), COLUMN - 2,
							 y_of(bottom));
	}
	appendStringInfoString(html, "\"/>");
}

/* A minute is a level; neighbours are joined. */
void
dbopt_chart_steps(StringInfo html, const char *kind, const double *heights)
{
	appendStringInfo(html, "<path class=\"line %s\" d=\"M0 0", kind);
	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		if (heights[i] < 0)
			continue;
		if (i > 0 && heights[i - 1] >= 0)
			appendStringInfo(html, "V%dh%d", y_of(heights[i]), COLUMN);
		else
			appendStringInfo(html, "M%d %dh%d", i * COLUMN, y_of(heights[i]),
							 COLUMN);
	}
	appendStringInfoString(html, "\"/>");
}

void
dbopt_chart_line(StringInfo html, const char *kind, double height)
{
	appendStringInfo(html, "<path class=\"line %s\" d=\"M0 %dH%d\"/>", kind,
					 y_of(height), WIDTH);
}

void
dbopt_chart_note(StringInfo html, int minute, const char *text)
{
	appendStringInfo(html, "<rect class=\"hit\" x=\"%d\" y=\"0\" width=\"%d\""
					 " height=\"%d\"><title>%s</title></rect>",
					 minute * COLUMN, COLUMN, DBOPT_CHART_HEIGHT, text);
}

void
dbopt_chart_end(StringInfo html, TimestampTz now)
{
	appendStringInfoString(html, "</svg><div class=\"x\">");
	for (int quarter = 4; quarter >= 0; quarter--)
	{
		TimestampTz time = now - quarter * 15 * USECS_PER_MINUTE;

		appendStringInfoString(html, "<span>");
		dbopt_html_text(html, dbopt_html_strftime(time, quarter > 0 ? "%H:%M" :
												  "%H:%M %Z"));
		appendStringInfoString(html, "</span>");
	}
	appendStringInfoString(html, "</div></div>");
}

/* A run of bars; each from the height of another one on. */
static void
spark_bars(StringInfo html, const char *kind,
		   const DbOptHandlerMinute *minutes, double most, bool failures)
{
	appendStringInfo(html, "<path class=\"%s\" d=\"M0 0", kind);
	for (int i = 0; i < DBOPT_MINUTES; i++)
	{
		uint32		count = failures ? minutes[i].failures :
		minutes[i].successes;
		int			bottom = SPARK_HEIGHT -
		(failures ? (int) (SPARK_HEIGHT * (minutes[i].successes / most)) : 0);
		int			height = Max((int) (SPARK_HEIGHT * (count / most)), 8);

		if (count > 0)
			appendStringInfo(html, "M%d %dv-%dh4v%dz", i * 5,
							 Max(bottom, height), height, height);
	}
	appendStringInfoString(html, "\"/>");
}

void
dbopt_chart_spark(StringInfo html, const char *label,
				  const DbOptHandlerMinute *minutes)
{
	double		most = 0;

	for (int i = 0; i < DBOPT_MINUTES; i++)
		most = Max(most, (double) minutes[i].successes + minutes[i].failures);
	appendStringInfo(html, "<svg class=\"spark\" viewBox=\"0 0 %d %d\""
					 " preserveAspectRatio=\"none\" role=\"img\" aria-label=\"",
					 DBOPT_MINUTES * 5, SPARK_HEIGHT);
	dbopt_html_text(html, label);
	appendStringInfo(html, "\"><path class=\"line base\" d=\"M0 %dH%d\"/>",
					 SPARK_HEIGHT, DBOPT_MINUTES * 5);
	if (most > 0)
	{
		spark_bars(html, "good", minutes, most, false);
		spark_bars(html, "bad", minutes, most, true);
	}
	appendStringInfoString(html, "</svg>");
}
