/*
 * classify.h
 *		Is an error worth another attempt?
 *
 * Pure functions over an array of rules that the caller has loaded.  The most
 * specific matching rule wins: SQLSTATE with a pattern, SQLSTATE, class with
 * a pattern, class, pattern (a longer one before a shorter one), then the
 * policy's retry_unknown.  Between two of the same kind, a rule of the policy
 * itself wins over one for all policies, and then "not retryable" wins.
 */
#ifndef DBOPT_CLASSIFY_H
#define DBOPT_CLASSIFY_H

typedef struct DbOptErrorRule
{
	bool		own;			/* a rule of this policy, not one for all */
	char		sqlstate[6];	/* five characters, a two-character class, or
								 * "" */
	const char *pattern;		/* substring of the message, ASCII letters
								 * without regard to case; NULL: any */
	bool		retryable;
} DbOptErrorRule;

extern bool dbopt_sqlstate_valid(const char *sqlstate);
extern bool dbopt_classify(const DbOptErrorRule *rules, int nrules,
						   bool retry_unknown, const char *sqlstate,
						   const char *message);

#endif							/* DBOPT_CLASSIFY_H */
