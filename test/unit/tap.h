/*
 * tap.h
 *		The little of the Test Anything Protocol that the unit tests need.
 *
 * Include after c.h.  A test says ok() or is_int() for every fact, and its
 * main() ends with "return done_testing();".
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdio.h>

/* libc's, so that PostgreSQL's need not be linked */
#undef printf
#undef vprintf

static int	tap_tests;
static int	tap_failures;

static inline void tap_result(bool passed, const char *format, va_list args)
			__attribute__((format(printf, 2, 0)));
static inline bool ok(bool passed, const char *format,...)
			__attribute__((format(printf, 2, 3)));
static inline bool is_int(int64 got, int64 expected, const char *format,...)
			__attribute__((format(printf, 3, 4)));

static inline void
tap_result(bool passed, const char *format, va_list args)
{
	tap_tests++;
	if (!passed)
		tap_failures++;
	printf("%sok %d - ", passed ? "" : "not ", tap_tests);
	vprintf(format, args);
	printf("\n");
}

static inline bool
ok(bool passed, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	tap_result(passed, format, args);
	va_end(args);
	return passed;
}

static inline bool
is_int(int64 got, int64 expected, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	tap_result(got == expected, format, args);
	va_end(args);
	if (got != expected)
		printf("#      got: %lld\n# expected: %lld\n",
			   (long long) got, (long long) expected);
	return got == expected;
}

static inline int
done_testing(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures == 0 ? 0 : 1;
}

/*
 * splitmix64 (S. Vigna, public domain): the same numbers everywhere, for
 * tests that draw.
 */
static inline uint64
test_random(uint64 *state)
{
	uint64		z = (*state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#endif							/* TAP_H */
