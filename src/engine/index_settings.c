/*
 * index_settings.c
 *		The settings under which definitions of indexes are read and compared.
 *
 * Run by whoever reads, analyzes, prints or builds a definition.  A row means
 * the same whoever asks, and wherever it is built: a constant that is written
 * '02/03/2026' or '00:00 EST', and an expression that PostgreSQL simplifies, do
 * not depend on the settings of a role, a database or a client.  The values are
 * PostgreSQL's own defaults where those are the same on every server.
 */
#include "postgres.h"

#include "engine/index_settings.h"
#include "utils/guc.h"

static const char *const settings[][2] = {
	/* how names, strings and operators are read */
	{"search_path", "pg_catalog, pg_temp"},
	{"standard_conforming_strings", "on"},
	{"backslash_quote", "on"},
	{"transform_null_equals", "off"},

	/* how constants are read */
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "GMT"},
	{"timezone_abbreviations", "Default"},
	{"array_nulls", "on"},
	{"lc_monetary", "C"},
	{"xmloption", "content"},

	/* how values become text, also inside an expression */
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"xmlbinary", "base64"},
	{"quote_all_identifiers", "off"}
};

/* To set some of them reads a file. */
static bool
is_set(const char *name, const char *value)
{
	return strcmp(GetConfigOption(name, false, false), value) == 0;
}

void
dbopt_index_settings_pin(void)
{
	for (int i = 0; i < lengthof(settings); i++)
		if (!is_set(settings[i][0], settings[i][1]))
			(void) set_config_option(settings[i][0], settings[i][1],
									 PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
}

void
dbopt_index_settings_keep(void)
{
	for (int i = 0; i < lengthof(settings); i++)
		if (!is_set(settings[i][0], settings[i][1]))
			SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET,
							PGC_S_SESSION);
}
