/*
 * patterns.c
 *		Which handlers of a source want an event type, without asking each.
 *
 * Run by the scheduler, which holds thousands of event types against as many
 * handlers.  The patterns are in a hash table, those that end in "*" by what
 * is in front of it; a type looks itself up, and its beginnings of the lengths
 * that there are.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "engine/patterns.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct PatternKey
{
	const char *text;
	int			length;
	bool		open;			/* ended in "*" */
} PatternKey;

typedef struct Pattern
{
	PatternKey	key;
	List	   *handlers;		/* of DbOptHandler * */
} Pattern;

struct DbOptPatterns
{
	HTAB	   *table;
	int			max_length;
	bool	   *lengths;		/* of those that ended in "*" */
};

static uint32
hash_pattern(const void *key, Size size)
{
	const PatternKey *pattern = key;

	return hash_bytes((const unsigned char *) pattern->text, pattern->length) ^
		(uint32) pattern->open;
}

static int
match_patterns(const void *a, const void *b, Size size)
{
	const PatternKey *left = a;
	const PatternKey *right = b;

	if (left->length != right->length || left->open != right->open)
		return 1;
	return memcmp(left->text, right->text, left->length);
}

static PatternKey
pattern_of(const DbOptHandler *handler)
{
	PatternKey	key = {0};

	key.text = handler->event_type;
	key.length = strlen(key.text);
	key.open = key.length > 0 && key.text[key.length - 1] == '*';
	if (key.open)
		key.length--;
	return key;
}

static void
add_handler(DbOptPatterns *patterns, DbOptHandler *handler)
{
	PatternKey	key = pattern_of(handler);
	bool		found;
	Pattern    *pattern = hash_search(patterns->table, &key, HASH_ENTER,
									  &found);

	if (!found)
		pattern->handlers = NIL;
	pattern->handlers = lappend(pattern->handlers, handler);
	if (key.open)
		patterns->lengths[key.length] = true;
}

static int
max_length(const DbOptConfig *config)
{
	int			result = 0;
	ListCell   *cell;

	foreach(cell, config->handlers)
		result = Max(result,
					 strlen(((DbOptHandler *) lfirst(cell))->event_type));
	return result;
}

DbOptPatterns *
dbopt_patterns_make(const DbOptConfig *config, const DbOptSource *source)
{
	DbOptPatterns *patterns = palloc0(sizeof(DbOptPatterns));
	HASHCTL		control = {
		.keysize = sizeof(PatternKey),
		.entrysize = sizeof(Pattern),
		.hash = hash_pattern,
		.match = match_patterns,
		.hcxt = CurrentMemoryContext
	};
	ListCell   *cell;

	patterns->max_length = max_length(config);
	patterns->lengths = palloc0(sizeof(bool) * (patterns->max_length + 1));
	patterns->table = hash_create("dbopt patterns", 64, &control,
								  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
								  HASH_CONTEXT);
	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (handler->source == source)
			add_handler(patterns, handler);
	}
	return patterns;
}

static List *
add_matching(List *handlers, const DbOptPatterns *patterns,
			 const char *event_type, int length, bool open)
{
	PatternKey	key = {event_type, length, open};
	Pattern    *pattern = hash_search(patterns->table, &key, HASH_FIND, NULL);

	return pattern == NULL ? handlers :
		list_concat(handlers, pattern->handlers);
}

List *
dbopt_patterns_match(const DbOptPatterns *patterns, const char *event_type)
{
	int			length = strlen(event_type);
	List	   *handlers = add_matching(NIL, patterns, event_type, length,
										false);

	for (int i = Min(length, patterns->max_length); i >= 0; i--)
		if (patterns->lengths[i])
			handlers = add_matching(handlers, patterns, event_type, i, true);
	return handlers;
}
