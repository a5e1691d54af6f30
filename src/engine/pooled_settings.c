/*
 * pooled_settings.c
 *		The caller's settings that a pool session takes over.
 *
 * Run by callers and sessions.  Asking PostgreSQL for the text of each of them
 * takes longer than the rest of a call's request, so the texts are kept until
 * one of the variables behind them has changed.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "engine/pooled.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "storage/proc.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rls.h"

/*
 * What makes a statement mean and print what it would for the caller.  All
 * others are the role's own, as in a new connection.
 */
static const char *const settings[] = {
	"search_path",
	"row_security",
	"standard_conforming_strings",
	"TimeZone",
	"DateStyle",
	"IntervalStyle",
	"extra_float_digits",
	"bytea_output",
	"client_min_messages",
	"lock_timeout"
};

/* Where PostgreSQL keeps their values, but for the search_path, a text. */
static const struct
{
	const void *variable;
	Size		size;
}			variables[] = {
	{&row_security, sizeof(row_security)},
	{&standard_conforming_strings, sizeof(standard_conforming_strings)},
	{&session_timezone, sizeof(session_timezone)},
	{&DateStyle, sizeof(DateStyle)},
	{&DateOrder, sizeof(DateOrder)},
	{&IntervalStyle, sizeof(IntervalStyle)},
	{&extra_float_digits, sizeof(extra_float_digits)},
	{&bytea_output, sizeof(bytea_output)},
	{&client_min_messages, sizeof(client_min_messages)},
	{&LockTimeout, sizeof(LockTimeout)}
};

/* The texts, and the values that they are of. */
static bool known = false;
static StringInfoData known_texts;
static StringInfoData known_values;

static void
put_values(StringInfo values)
{
	for (int i = 0; i < lengthof(variables); i++)
		appendBinaryStringInfo(values, variables[i].variable,
							   variables[i].size);
	appendStringInfoString(values, namespace_search_path);
}

static bool
are_known(void)
{
	const char *place = known_values.data;

	if (!known)
		return false;
	for (int i = 0; i < lengthof(variables); i++)
	{
		if (memcmp(place, variables[i].variable, variables[i].size) != 0)
			return false;
		place += variables[i].size;
	}
	return strcmp(place, namespace_search_path) == 0;
}

static void
begin_texts(StringInfo texts)
{
	MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);

	if (texts->data == NULL)
		initStringInfo(texts);
	resetStringInfo(texts);
	MemoryContextSwitchTo(previous);
}

const StringInfoData *
dbopt_pooled_settings_get(void)
{
	if (are_known())
		return &known_texts;
	known = false;
	begin_texts(&known_texts);
	begin_texts(&known_values);
	for (int i = 0; i < lengthof(settings); i++)
		dbopt_pooled_text_put(&known_texts,
							  GetConfigOption(settings[i], false, false));
	put_values(&known_values);
	known = true;
	return &known_texts;
}

/* Most callers have those of the session: then there is nothing to be set. */
void
dbopt_pooled_settings_apply(char *texts, int length)
{
	const StringInfoData *own = dbopt_pooled_settings_get();

	if (length == own->len && memcmp(texts, own->data, length) == 0)
		return;
	for (int i = 0; i < lengthof(settings); i++)
	{
		const char *value = dbopt_pooled_text_take(&texts);

		if (strcmp(value, GetConfigOption(settings[i], false, false)) != 0)
			SetConfigOption(settings[i], value, PGC_USERSET, PGC_S_SESSION);
	}
}
