/*
 * classify.h
 *		Is an error worth another attempt?
 *
 * Pure functions over an array of rules that the caller has loaded.  The most
 * specific matching rule wins: SQLSTATE with a pattern, SQLSTATE, class with
 * a pattern, class, pattern, then the policy's retry_unknown.  Between two of
 * the same kind, the longer pattern wins, then a rule of the policy itself
 * over one for all policies, and then "not retryable".
 *
 * Patterns are compared byte by byte, ASCII letters without regard to case
 * and all other bytes exactly, so that no encoding or locale has a say: in
 * UTF-8 a pattern is found only at the start of a character.
 */
#ifndef DBOPT_CLASSIFY_H
#define DBOPT_CLASSIFY_H

/*
 * A rule with neither sqlstate nor pattern names no error and matches none;
 * nor does one whose pattern is empty.
 */
typedef struct DbOptErrorRule
{
	bool		own;			/* a rule of this policy, not one for all */
	char		sqlstate[6];	/* five characters, a two-character class, or
								 * "" */
	const char *pattern;		/* substring of the message, ASCII letters
								 * without regard to case; NULL: any */
	bool		retryable;
} DbOptErrorRule;

/* An SQLSTATE is five of 0-9 and A-Z, a class two; NULL is neither. */
extern bool dbopt_sqlstate_valid(const char *sqlstate);
extern bool dbopt_sqlclass_valid(const char *sqlclass);

/*
 * Either text may be NULL, which counts as "".  A bare class as sqlstate is
 * matched by the rules for that class.
 */
extern bool dbopt_classify(const DbOptErrorRule *rules, int nrules,
						   bool retry_unknown, const char *sqlstate,
						   const char *message);

#endif							/* DBOPT_CLASSIFY_H */
