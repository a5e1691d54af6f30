/*
 * config_find.c
 *		Finding handlers, sources and policies in the configuration.
 *
 * Run by every process of ours, and by backends.  No locks.
 */
#include "postgres.h"

#include "engine/config.h"

DbOptHandler *
dbopt_config_handler(const DbOptConfig *config, int32 handler_id)
{
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);

		if (handler->handler_id == handler_id)
			return handler;
	}
	return NULL;
}

DbOptSource *
dbopt_config_source(const DbOptConfig *config, int32 source_id)
{
	ListCell   *cell;

	foreach(cell, config->sources)
	{
		DbOptSource *source = lfirst(cell);

		if (source->source_id == source_id)
			return source;
	}
	return NULL;
}

DbOptSource *
dbopt_config_source_of(const DbOptConfig *config, Oid relid)
{
	ListCell   *cell;

	foreach(cell, config->sources)
	{
		DbOptSource *source = lfirst(cell);

		if (source->relid == relid)
			return source;
	}
	return NULL;
}

DbOptPolicy *
dbopt_config_policy(const DbOptConfig *config, const char *name)
{
	ListCell   *cell;

	foreach(cell, config->policies)
	{
		DbOptPolicy *policy = lfirst(cell);

		if (strcmp(policy->name, name) == 0)
			return policy;
	}
	return NULL;
}

/*
 * The number of characters that a pattern fixes, an exact one counting one
 * more than the same with a "*"; -1 when it does not match.
 */
int
dbopt_pattern_match(const char *pattern, const char *event_type)
{
	int			length = strlen(pattern);

	if (length > 0 && pattern[length - 1] == '*')
		return strncmp(pattern, event_type, length - 1) == 0 ? length - 1 : -1;
	return strcmp(pattern, event_type) == 0 ? length + 1 : -1;
}

DbOptHandler *
dbopt_config_most_specific(const DbOptConfig *config,
						   const DbOptSource *source, const char *event_type)
{
	DbOptHandler *best = NULL;
	int			best_match = -1;
	ListCell   *cell;

	foreach(cell, config->handlers)
	{
		DbOptHandler *handler = lfirst(cell);
		int			match;

		if (handler->source != source)
			continue;
		match = dbopt_pattern_match(handler->event_type, event_type);
		if (match > best_match)
		{
			best = handler;
			best_match = match;
		}
	}
	return best;
}
