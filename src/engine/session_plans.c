/*
 * session_plans.c
 *		Plans that a pool session keeps, and the settings they were made under.
 *
 * Run by pool sessions.  What a literal or an operator in a function means can
 * depend on settings when it is parsed: PostgreSQL keeps that in the plan, and
 * makes none anew when they change.  One job would so tell the next, maybe
 * another caller's, what time zone to read times in.  Making all plans anew for
 * each job would be slow, and is left for when these settings are others.
 */
#include "postgres.h"

#include "engine/session.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parse_expr.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/plancache.h"
#include "utils/xml.h"

/* From utils/pg_locale.h, which asks for ICU's headers. */
extern PGDLLIMPORT char *locale_monetary;

/*
 * Those that PostgreSQL looks at while it analyses a statement, but for the
 * search_path, row_security and the role, which it makes plans anew for itself.
 */
typedef struct PlanSettings
{
	const pg_tz *time_zone;
	int			date_style;
	int			date_order;
	int			interval_style;
	int			xml_option;
	bool		array_nulls;
	bool		transform_null_equals;
	char		monetary[2 * NAMEDATALEN];	/* its locale */
} PlanSettings;

static post_parse_analyze_hook_type previous_hook = NULL;
static PlanSettings plans_of;	/* what the plans were made under */
static bool mixed = true;		/* but for some, maybe */
static bool at_work = false;	/* with a job, which may make plans */

static void
get_settings(PlanSettings *now)
{
	memset(now, 0, sizeof(*now));	/* what lies between the fields, too */
	now->time_zone = session_timezone;
	now->date_style = DateStyle;
	now->date_order = DateOrder;
	now->interval_style = IntervalStyle;
	now->xml_option = xmloption;
	now->array_nulls = Array_nulls;
	now->transform_null_equals = Transform_null_equals;
	strlcpy(now->monetary, locale_monetary, sizeof(now->monetary));
}

/*
 * Each statement that gets a plan is analysed, also where a function has settings
 * of its own, or sets and resets some.
 */
static void
note_settings(ParseState *pstate, Query *query, JumbleState *jumbled)
{
	PlanSettings now;

	if (previous_hook != NULL)
		previous_hook(pstate, query, jumbled);
	if (!at_work || mixed)
		return;
	get_settings(&now);
	mixed = memcmp(&now, &plans_of, sizeof(now)) != 0;
}

void
dbopt_session_plans_check(void)
{
	static bool hooked = false;
	PlanSettings now;

	if (!hooked)
	{
		previous_hook = post_parse_analyze_hook;
		post_parse_analyze_hook = note_settings;
		hooked = true;
	}
	at_work = true;
	get_settings(&now);
	if (!mixed && memcmp(&now, &plans_of, sizeof(now)) == 0)
		return;
	ResetPlanCache();
	plans_of = now;
	mixed = false;
}

void
dbopt_session_plans_rest(void)
{
	at_work = false;
}
