/*
 * classify.c
 *		The search for the rule that decides about an error.
 *
 * Every backend and worker may call this.  Order among the rules of the array
 * is without effect: two rules that rule_beats() cannot tell apart give the
 * same answer.
 */
#include "c.h"

#include "policy/classify.h"

#define SQLSTATE_LENGTH		5
#define SQLCLASS_LENGTH		2

/*
 * Exactly "length" characters, each a digit or an upper-case ASCII letter?
 */
static bool
valid_code(const char *code, size_t length)
{
	if (code == NULL || strlen(code) != length)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (!(code[i] >= '0' && code[i] <= '9') &&
			!(code[i] >= 'A' && code[i] <= 'Z'))
			return false;
	}
	return true;
}

bool
dbopt_sqlstate_valid(const char *sqlstate)
{
	return valid_code(sqlstate, SQLSTATE_LENGTH);
}

bool
dbopt_sqlclass_valid(const char *sqlclass)
{
	return valid_code(sqlclass, SQLCLASS_LENGTH);
}

/*
 * Written out because libc's tolower() depends on the locale and would break
 * up multibyte characters.
 */
static inline char
ascii_lower(char c)
{
	return (c >= 'A' && c <= 'Z') ? (char) (c - 'A' + 'a') : c;
}

static bool
starts_with(const char *string, const char *pattern)
{
	/* the end of the string differs from every byte of the pattern */
	while (*pattern != '\0' && ascii_lower(*string) == ascii_lower(*pattern))
	{
		string++;
		pattern++;
	}
	return *pattern == '\0';
}

static bool
contains(const char *string, const char *pattern)
{
	if (*pattern == '\0')
		return false;
	for (; *string != '\0'; string++)
	{
		if (starts_with(string, pattern))
			return true;
	}
	return false;
}

/*
 * The rule's sqlstate is a prefix: all of it, its class, or nothing.
 */
static bool
rule_matches(const DbOptErrorRule *rule, const char *sqlstate,
			 const char *message)
{
	if (rule->sqlstate[0] == '\0' && rule->pattern == NULL)
		return false;
	if (strncmp(rule->sqlstate, sqlstate, strlen(rule->sqlstate)) != 0)
		return false;
	return rule->pattern == NULL || contains(message, rule->pattern);
}

/*
 * 0 for a rule without one, which any pattern that matches beats.
 */
static size_t
pattern_length(const DbOptErrorRule *rule)
{
	return rule->pattern != NULL ? strlen(rule->pattern) : 0;
}

/*
 * Would "rule" decide rather than "other", if both match?
 */
static bool
rule_beats(const DbOptErrorRule *rule, const DbOptErrorRule *other)
{
	if (strlen(rule->sqlstate) != strlen(other->sqlstate))
		return strlen(rule->sqlstate) > strlen(other->sqlstate);
	if (pattern_length(rule) != pattern_length(other))
		return pattern_length(rule) > pattern_length(other);
	if (rule->own != other->own)
		return rule->own;
	return !rule->retryable && other->retryable;
}

bool
dbopt_classify(const DbOptErrorRule *rules, int nrules, bool retry_unknown,
			   const char *sqlstate, const char *message)
{
	const DbOptErrorRule *best = NULL;

	if (sqlstate == NULL)
		sqlstate = "";
	if (message == NULL)
		message = "";

	/* whether a rule would win is cheaper to know than whether it matches */
	for (int i = 0; i < nrules; i++)
	{
		if ((best == NULL || rule_beats(&rules[i], best)) &&
			rule_matches(&rules[i], sqlstate, message))
			best = &rules[i];
	}
	return best != NULL ? best->retryable : retry_unknown;
}
