/*
 * metrics.c
 *		Metrics as rows and as text: SQL functions.
 *
 * Run by whoever scrapes; metrics_collect.c has what is measured.
 */
#include "postgres.h"

#include <math.h>

#include "api/metrics.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "state/shmem.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(dbopt_metrics);
PG_FUNCTION_INFO_V1(dbopt_prometheus);

static const char *const kinds[] = {
	[DBOPT_METRIC_COUNTER] = "counter",
	[DBOPT_METRIC_GAUGE] = "gauge",
	[DBOPT_METRIC_HISTOGRAM] = "histogram"
};

/* ---- rows ---------------------------------------------------------------- */

typedef struct RowSink
{
	DbOptMetricSink sink;
	ReturnSetInfo *result;
	MemoryContext context;		/* reset after each row */
} RowSink;

static void
row_family(DbOptMetricSink *sink, const DbOptMetric *metric)
{
}

static void
push_text(JsonbParseState **state, JsonbIteratorToken token,
		  const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	(void) pushJsonbValue(state, token, &value);
}

static Datum
labels_json(const DbOptLabels *labels, const char *label,
			const char *value_of_label)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < labels->count; i++)
	{
		push_text(&state, WJB_KEY, labels->names[i]);
		push_text(&state, WJB_VALUE, labels->values[i]);
	}
	if (label != NULL)
	{
		push_text(&state, WJB_KEY, label);
		push_text(&state, WJB_VALUE, value_of_label);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state,
														   WJB_END_OBJECT,
														   NULL)));
}

static void
row_sample(DbOptMetricSink *sink, const DbOptMetric *metric, const char *part,
		   DbOptLabels *labels, const char *label,
		   const char *value_of_label, double value)
{
	RowSink    *rows = (RowSink *) sink;
	MemoryContext previous = MemoryContextSwitchTo(rows->context);
	Datum		values[4];
	bool		nulls[4] = {0};

	values[0] = part == NULL ? CStringGetTextDatum(metric->name) :
		CStringGetTextDatum(psprintf("%s.%s", metric->name, part));
	values[1] = CStringGetTextDatum(kinds[metric->kind]);
	values[2] = labels_json(labels, label, value_of_label);
	values[3] = Float8GetDatum(value);
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc,
						 values, nulls);
	MemoryContextSwitchTo(previous);
	MemoryContextReset(rows->context);
}

/* dbopt_metrics() -> a row for each sample */
Datum
dbopt_metrics(PG_FUNCTION_ARGS)
{
	RowSink		rows = {{row_family, row_sample}};

	dbopt_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	rows.result = (ReturnSetInfo *) fcinfo->resultinfo;
	rows.context = AllocSetContextCreate(CurrentMemoryContext,
										 "dbopt metric",
										 ALLOCSET_DEFAULT_SIZES);
	dbopt_metrics_collect(&rows.sink);
	MemoryContextDelete(rows.context);
	return (Datum) 0;
}

/* ---- text ---------------------------------------------------------------- */

typedef struct TextSink
{
	DbOptMetricSink sink;
	StringInfoData text;
	StringInfoData name;		/* of the present family */
} TextSink;

/* With underscores for dots, and what its kind calls for at its end. */
static void
name_family(StringInfo name, const DbOptMetric *metric)
{
	resetStringInfo(name);
	for (const char *c = metric->name; *c != '\0'; c++)
		appendStringInfoCharMacro(name, *c == '.' ? '_' : *c);
	if (metric->kind == DBOPT_METRIC_COUNTER)
		appendStringInfoString(name, "_total");
}

static void
append_label(StringInfo text, const char *name, const char *value)
{
	appendStringInfoString(text, name);
	appendStringInfoString(text, "=\"");
	for (; *value != '\0'; value++)
	{
		switch (*value)
		{
			case '\\':
				appendStringInfoString(text, "\\\\");
				break;
			case '"':
				appendStringInfoString(text, "\\\"");
				break;
			case '\n':
				appendStringInfoString(text, "\\n");
				break;
			default:
				appendStringInfoCharMacro(text, *value);
		}
	}
	appendStringInfoCharMacro(text, '"');
}

static const char *
labels_text(DbOptLabels *labels)
{
	StringInfoData text;

	if (labels->text !=NULL)
		return labels->text;
	initStringInfo(&text);
	for (int i = 0; i < labels->count; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(&text, ',');
		append_label(&text, labels->names[i], labels->values[i]);
	}
	labels->text = text.data;

	return labels->text;
}

static void
append_value(StringInfo text, double value)
{
	char		digits[MAXINT8LEN + 1];

	/* Most are counts. */
	if (value >= 0 && value < 1e15 && value == floor(value))
		appendBinaryStringInfo(text, digits,
							   pg_ulltoa_n((uint64) value, digits));
	else
	{
		char	   *shortest = float8out_internal(value);

		appendStringInfoString(text, shortest);
		pfree(shortest);
	}
}

static void
text_family(DbOptMetricSink *sink, const DbOptMetric *metric)
{
	TextSink   *texts = (TextSink *) sink;

	name_family(&texts->name, metric);
	appendStringInfo(&texts->text, "# HELP %s %s\n# TYPE %s %s\n",
					 texts->name.data, metric->help,
					 texts->name.data, kinds[metric->kind]);
}

static void
text_sample(DbOptMetricSink *sink, const DbOptMetric *metric,
			const char *part, DbOptLabels *labels, const char *label,
			const char *value_of_label, double value)
{
	TextSink   *texts = (TextSink *) sink;
	StringInfo text = &texts->text;

	appendBinaryStringInfo(text, texts->name.data, texts->name.len);
	if (part != NULL)
	{
		appendStringInfoCharMacro(text, '_');
		appendStringInfoString(text, part);
	}
	appendStringInfoCharMacro(text, '{');
	appendStringInfoString(text, labels_text(labels));
	if (label != NULL)
	{
		appendStringInfoCharMacro(text, ',');
		append_label(text, label, value_of_label);
	}
	appendStringInfoString(text, "} ");
	append_value(text, value);
	appendStringInfoCharMacro(text, '\n');
}

/*
 * dbopt_prometheus() -> text
 *
 * The format is in UTF-8 whatever the database's encoding is: the client's,
 * which the text is converted to, is to be that.
 */
Datum
dbopt_prometheus(PG_FUNCTION_ARGS)
{
	TextSink	texts = {{text_family, text_sample}};

	dbopt_require_preload();
	initStringInfo(&texts.text);
	initStringInfo(&texts.name);
	dbopt_metrics_collect(&texts.sink);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(texts.text.data,
											  texts.text.len));
}
