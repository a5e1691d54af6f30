/*
 * test_sqlstate.c
 *		Unit tests of policy/classify: what is an SQLSTATE or a class.
 */
#include "c.h"

#include "policy/classify.h"
#include "tap.h"

int
main(void)
{
	static const char *const states[] = {"00000", "ZZZZZ", "40P01", "9A9A9"};
	static const char *const classes[] = {"00", "ZZ", "0A", "A0"};
	static const char *const neither[] = {
		"", "4", "400", "4000", "400011", "40p01", "aaaaa", "4000 ", " 4000",
		"40-01", "4/000", "4:000", "4@000", "4[000", "4`000", "4{000", "0a",
		"a0", "z9", "4 ", "4/", "4:", "4@", "4[", "\303\211", "\303\211000"
	};

	for (size_t i = 0; i < lengthof(states); i++)
		ok(dbopt_sqlstate_valid(states[i]) && !dbopt_sqlclass_valid(states[i]),
		   "\"%s\" is an SQLSTATE", states[i]);
	for (size_t i = 0; i < lengthof(classes); i++)
		ok(dbopt_sqlclass_valid(classes[i]) &&
		   !dbopt_sqlstate_valid(classes[i]),
		   "\"%s\" is a class", classes[i]);
	for (size_t i = 0; i < lengthof(neither); i++)
		ok(!dbopt_sqlstate_valid(neither[i]) &&
		   !dbopt_sqlclass_valid(neither[i]),
		   "\"%s\" is neither", neither[i]);
	ok(!dbopt_sqlstate_valid(NULL) && !dbopt_sqlclass_valid(NULL),
	   "NULL is neither");
	return done_testing();
}
