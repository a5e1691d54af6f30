/*
 * test_classify.c
 *		Unit tests of policy/classify, with the rules that dbopt ships.
 */
#include "c.h"

#include "policy/classify.h"
#include "tap.h"

#define ANY			NULL

typedef struct ShippedRule
{
	const char *policy;			/* NULL: for all policies */
	const char *sqlstate;
	const char *pattern;
	bool		retryable;
} ShippedRule;

static const ShippedRule shipped[] = {
	{NULL, "08", ANY, true},
	{NULL, "53", ANY, true},
	{NULL, "57P01", ANY, true},
	{NULL, "57P02", ANY, true},
	{NULL, "57P03", ANY, true},
	{NULL, "57P05", ANY, true},
	{NULL, "55P03", ANY, true},
	{NULL, "40001", ANY, true},
	{NULL, "40P01", ANY, true},
	{NULL, "40003", ANY, true},
	{NULL, "57014", ANY, true},
	{NULL, "", "connection timeout", true},
	{NULL, "", "connection refused", true},
	{NULL, "", "connection lost", true},
	{NULL, "", "connection reset", true},
	{NULL, "", "timeout expired", true},
	{NULL, "", "timeout", true},
	{NULL, "", "timed out", true},
	{NULL, "", "database is locked", true},
	{NULL, "", "too many connections", true},
	{NULL, "", "connection pool exhausted", true},
	{NULL, "", "ECONNRESET", true},
	{NULL, "", "ECONNREFUSED", true},
	{NULL, "", "ETIMEDOUT", true},
	{NULL, "", "ENOTFOUND", true},
	{NULL, "", "EHOSTUNREACH", true},
	{NULL, "", "ENETUNREACH", true},
	{NULL, "", "EPIPE", true},
	{NULL, "", "EAI_AGAIN", true},
	{"database", "", "terminating connection due to administrator command", true},
	{"database", "", "server closed the connection unexpectedly", true},
	{"database", "", "no connection to the server", true},
	{"database", "", "could not connect to server", true},
	{"transaction", "", "could not serialize access", true},
	{"transaction", "", "deadlock detected", true},
	{"transaction", "", "tuple concurrently updated", true},
	{"transaction", "", "serialization failure", true},
	{"transaction", "", "concurrent update", true},
	{"transaction", "", "lock timeout", true},
	{"event", "22", ANY, false},
	{"event", "23", ANY, false},
	{"event", "42", ANY, false},
	{"event", "0A", ANY, false}
};

static DbOptErrorRule
make_rule(bool own, const char *sqlstate, const char *pattern, bool retryable)
{
	DbOptErrorRule rule = {.own = own,.pattern = pattern,.retryable = retryable};

	strncpy(rule.sqlstate, sqlstate, sizeof(rule.sqlstate) - 1);
	return rule;
}

static int
load_policy(const char *policy, DbOptErrorRule *rules)
{
	int			nrules = 0;

	for (size_t i = 0; i < lengthof(shipped); i++)
	{
		const ShippedRule *s = &shipped[i];

		if (s->policy == NULL || strcmp(s->policy, policy) == 0)
			rules[nrules++] = make_rule(s->policy != NULL, s->sqlstate,
										s->pattern, s->retryable);
	}
	return nrules;
}

typedef enum LetterCase
{
	AS_IS, UPPER, LOWER, MIXED
} LetterCase;

static bool
is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/*
 * The pattern within a sentence, its letters in the given case.
 */
static void
make_message(char *message, const char *pattern, LetterCase letter_case)
{
	char	   *p = message + strlen("Q: ");
	size_t		i;

	strcpy(message, "Q: ");
	for (i = 0; pattern[i] != '\0'; i++)
	{
		p[i] = pattern[i];
		if (letter_case == AS_IS || !is_letter(p[i]))
			continue;
		if (letter_case == UPPER || (letter_case == MIXED && i % 2 == 0))
			p[i] = pattern[i] & ~0x20;
		else
			p[i] = pattern[i] | 0x20;
	}
	strcpy(p + i, ", zQ");
}

/*
 * Does the rule decide in the policy, and alone, whatever retry_unknown says?
 */
static bool
rule_decides(const DbOptErrorRule *rules, int nrules, int which)
{
	const DbOptErrorRule *rule = &rules[which];
	const char *sqlstate = rule->sqlstate[0] ? rule->sqlstate : "XX000";
	char		message[128] = "some error";
	bool		result = true;

	for (LetterCase letter_case = AS_IS; letter_case <= MIXED; letter_case++)
	{
		if (rule->pattern != NULL)
			make_message(message, rule->pattern, letter_case);
		for (int unknown = 0; unknown <= 1; unknown++)
		{
			result = result && rule->retryable ==
				dbopt_classify(rules, nrules, unknown, sqlstate, message);
			result = result && rule->retryable ==
				dbopt_classify(rule, 1, unknown, sqlstate, message);
		}
	}
	return result;
}

static void
test_shipped_rules(void)
{
	static const char *const policies[] = {
		"default", "database", "transaction", "event"
	};

	for (size_t p = 0; p < lengthof(policies); p++)
	{
		DbOptErrorRule rules[lengthof(shipped)];
		int			nrules = load_policy(policies[p], rules);

		for (int i = 0; i < nrules; i++)
			ok(rule_decides(rules, nrules, i), "%s: \"%s\" %s", policies[p],
			   rules[i].sqlstate, rules[i].pattern ? rules[i].pattern : "");
	}
}

typedef struct PolicyCase
{
	const char *policy;
	const char *sqlstate;
	const char *message;
	bool		retry_unknown;
	bool		expected;
} PolicyCase;

static const PolicyCase policy_cases[] = {
	{"default", "08006", "", false, true},
	{"default", "08", "", false, true},
	{"default", "0", "", false, false},
	{"default", "53300", "", false, true},
	{"default", "40002", "", false, false},
	{"default", "57P04", "", false, false},
	{"default", "57p01", "", false, false},
	{"default", "XX000", "", false, false},
	{"default", "XX000", "", true, true},
	{"default", "XX000", "deadlock detected", false, false},
	{"default", "XX000", "connection refuse", false, false},
	{"default", "XX000", "concurrent update", false, false},
	{"default", "22012", "division by zero", false, false},
	{"default", "", "", false, false},
	{"default", "", "", true, true},
	{"default", NULL, NULL, false, false},
	{"default", NULL, "Timed Out", false, true},
	{"default", "40001", NULL, false, true},
	{"database", "XX000", "deadlock detected", false, false},
	{"database", "57P01", "terminating connection", false, true},
	{"transaction", "XX000", "could not connect to server", false, false},
	{"event", "22012", "division by zero", true, false},
	{"event", "22P02", "invalid input: \"timeout\"", true, false},
	{"event", "23505", "duplicate key value", true, false},
	{"event", "42883", "function does not exist", true, false},
	{"event", "0A000", "not supported", true, false},
	{"event", "P0001", "service said no", true, true},
	{"event", "P0001", "timeout", false, true}
};

static void
test_policies(void)
{
	for (size_t i = 0; i < lengthof(policy_cases); i++)
	{
		const PolicyCase *c = &policy_cases[i];
		DbOptErrorRule rules[lengthof(shipped)];
		int			nrules = load_policy(c->policy, rules);

		ok(dbopt_classify(rules, nrules, c->retry_unknown, c->sqlstate,
						  c->message) == c->expected,
		   "%s: error %s \"%s\" is %sretryable", c->policy,
		   c->sqlstate ? c->sqlstate : "NULL",
		   c->message ? c->message : "NULL", c->expected ? "" : "not ");
	}
}

/*
 * All of these match the error 40001 "a deadlock"; each wins over those that
 * follow.
 */
static const DbOptErrorRule ladder[] = {
	{true, "40001", "deadlock", true},
	{false, "40001", "deadlock", true},
	{true, "40001", "dead", true},
	{false, "40001", "dead", true},
	{true, "40001", ANY, true},
	{false, "40001", ANY, true},
	{true, "40", "deadlock", true},
	{false, "40", "deadlock", true},
	{true, "40", "dead", true},
	{false, "40", "dead", true},
	{true, "40", ANY, true},
	{false, "40", ANY, true},
	{true, "", "deadlock", true},
	{false, "", "deadlock", true},
	{true, "", "dead", true},
	{false, "", "dead", true}
};

static bool
classify_pair(DbOptErrorRule first, DbOptErrorRule second)
{
	DbOptErrorRule rules[2] = {first, second};

	return dbopt_classify(rules, 2, false, "40001", "a deadlock");
}

/*
 * Does ladder[above] decide against ladder[below], in either order and with
 * either answer?
 */
static bool
wins(size_t above, size_t below)
{
	DbOptErrorRule winner = ladder[above];
	DbOptErrorRule loser = ladder[below];
	bool		result;

	loser.retryable = false;
	result = classify_pair(winner, loser) && classify_pair(loser, winner);
	winner.retryable = false;
	loser.retryable = true;
	return result &&
		!classify_pair(winner, loser) && !classify_pair(loser, winner);
}

static void
test_specificity(void)
{
	for (size_t i = 0; i < lengthof(ladder); i++)
	{
		DbOptErrorRule other = ladder[i];
		bool		beats_all = true;

		for (size_t j = i + 1; j < lengthof(ladder); j++)
			beats_all = beats_all && wins(i, j);
		ok(beats_all, "specificity: \"%s\" \"%s\" (%s) wins over the rest",
		   ladder[i].sqlstate, ladder[i].pattern ? ladder[i].pattern : "",
		   ladder[i].own ? "own" : "for all");

		other.retryable = false;
		ok(!classify_pair(ladder[i], other) && !classify_pair(other, ladder[i]),
		   "specificity: and between equals, \"not retryable\"");
	}
}

/*
 * A rule that would win does not if it does not match.
 */
static void
test_unmatched_loses(void)
{
	static const DbOptErrorRule unmatched[] = {
		{true, "40P01", ANY, false},
		{true, "40001", "unrelated", false},
		{true, "40001", "", false},
		{true, "08", ANY, false},
		{true, "40", "unrelated", false},
		{true, "", "a deadlock and more", false},
		{true, "", "", false},
		{true, "", ANY, false}
	};

	for (size_t i = 0; i < lengthof(unmatched); i++)
		ok(classify_pair(unmatched[i], ladder[lengthof(ladder) - 1]) &&
		   classify_pair(ladder[lengthof(ladder) - 1], unmatched[i]) &&
		   dbopt_classify(&unmatched[i], 1, true, "40001", "a deadlock"),
		   "no match: \"%s\" \"%s\"", unmatched[i].sqlstate,
		   unmatched[i].pattern ? unmatched[i].pattern : "NULL");
}

typedef struct SearchCase
{
	const char *pattern;
	const char *message;
	bool		found;
} SearchCase;

static const SearchCase search_cases[] = {
	{"abc", "abc", true},
	{"abc", "ABC at the start", true},
	{"abc", "in the aBc middle", true},
	{"abc", "at the end Abc", true},
	{"abc", "ab", false},
	{"abc", "ab c", false},
	{"abc", "xab", false},
	{"abc", "", false},
	{"aab", "aaab", true},
	{"abab", "abaabab", true},
	{"", "anything", false},
	{"", "", false},
	{"azAZ", "AZaz", true},
	{"a_b%", "xA_B%", true},
	{"a_b", "axb", false},
	{"@", "`", false},
	{"[", "{", false},
	{"`", "@", false},
	{"{", "[", false},
	{"\303\251t\303\251", "L'\303\251T\303\251", true},
	{"\303\251", "\303\211", false},	/* small and capital E acute */
	{"\303\200", "\343\200\200", false},	/* A grave, CJK space */
	{"\303\200", "\303\240", false},	/* capital and small A grave */
	{"\345\220\215", "\345\220\215\345\211\215", true}, /* two CJK signs */
	{"k", "\342\204\252", false},	/* the sign for kelvin */
	{"\377", "\376\377", true}	/* no UTF-8 at all */
};

static void
test_search(void)
{
	for (size_t i = 0; i < lengthof(search_cases); i++)
	{
		const SearchCase *c = &search_cases[i];
		DbOptErrorRule rule = make_rule(false, "", c->pattern, true);

		ok(dbopt_classify(&rule, 1, false, "XX000", c->message) == c->found,
		   "search: row %zu, %sfound", i, c->found ? "" : "not ");
	}
	ok(!dbopt_classify(NULL, 0, false, "40001", "timeout") &&
	   dbopt_classify(NULL, 0, true, "40001", "timeout"),
	   "search: without rules, retry_unknown");
}

int
main(void)
{
	test_shipped_rules();
	test_policies();
	test_specificity();
	test_unmatched_loses();
	test_search();
	return done_testing();
}
