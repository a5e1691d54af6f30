/*
 * predecessor.c
 *		Whether the events before those of an ordered handler are through.
 *
 * Run by pool sessions.  One query finds the predecessors of all events of a
 * transaction, with one descent each of an index on the aggregate and its
 * version.  It runs as the owner of the events table, as mark.c does; its
 * snapshot is newer than the one that cursors and chunks are read with, so
 * that a predecessor that came in between counts as not handed out.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "engine/handed_out.h"
#include "engine/owner_spi.h"
#include "engine/predecessor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* A predecessor: an event of the same aggregate and handler. */
typedef struct Predecessor
{
	int			of;				/* index of the event */
	int64		position;
	char	   *key;
	char	   *event_type;
	bool		processed;		/* on a mark_processed source */
} Predecessor;

/* The events whose predecessors are asked for. */
typedef struct Question
{
	const DbOptOrdered *ordered;
	int			count;
	int		   *events;
	Datum	   *values[DBOPT_AGGREGATE_COLUMNS];
} Question;

/*
 * Is the predecessor surely another event of this transaction?  So it is when
 * versions are whole numbers and follow one on the other.
 */
static bool
has_own_predecessor(const DbOptOrdered *ordered, int at)
{
	const DbOptOrderedEvent *event = &ordered->events[ordered->order[at]];
	const DbOptOrderedEvent *before;
	Datum		next;

	if (at == 0 ||
		ordered->columns.types[DBOPT_AGGREGATE_VERSION] == NUMERICOID)
		return false;
	before = &ordered->events[ordered->order[at - 1]];
	if (before->aggregate != event->aggregate)
		return false;
	next = DirectFunctionCall1(numeric_inc, before->version);
	return dbopt_version_compare(next, event->version) == 0;
}

/*
 * Must its predecessor be looked for?  Not when it has been tried before: it
 * was its turn then.
 */
static bool
is_in_question(const DbOptOrdered *ordered, int at)
{
	const DbOptOrderedEvent *event = &ordered->events[ordered->order[at]];

	return event->aggregate != NULL && event->has_row &&
		event->event->attempts == 0 && !has_own_predecessor(ordered, at);
}

static void
gather_question(Question *question, const DbOptOrdered *ordered)
{
	memset(question, 0, sizeof(*question));
	question->ordered = ordered;
	question->events = palloc(sizeof(int) * Max(ordered->count, 1));
	for (int column = 0; column < DBOPT_AGGREGATE_COLUMNS; column++)
		question->values[column] = palloc(sizeof(Datum) *
										  Max(ordered->count, 1));
	for (int at = 0; at < ordered->count; at++)
	{
		int			i = ordered->order[at];

		if (!is_in_question(ordered, at))
			continue;
		for (int column = 0; column < DBOPT_AGGREGATE_COLUMNS; column++)
			question->values[column][question->count] =
				ordered->events[i].values[column];
		question->events[question->count++] = i;
	}
}

static void
bind_values(DbOptOwnerArgs *args, const Question *question, int column)
{
	Oid			type = question->ordered->columns.types[column];
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	dbopt_owner_bind(args, get_array_type(type),
					 PointerGetDatum(construct_array(question->values[column],
													 question->count, type,
													 length, by_value,
													 align)));
}

static void
bind_texts(DbOptOwnerArgs *args, List *texts)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	ListCell   *cell;

	foreach(cell, texts)
		values[foreach_current_index(cell)] =
		CStringGetTextDatum(lfirst(cell));
	dbopt_owner_bind(args, TEXTARRAYOID,
					 PointerGetDatum(construct_array(values,
													 list_length(texts),
													 TEXTOID, -1, false,
													 TYPALIGN_INT)));
}

static bool
is_prefix(const char *pattern)
{
	int			length = strlen(pattern);

	return length > 0 && pattern[length - 1] == '*';
}

static char *
without_star(const char *pattern)
{
	return pnstrdup(pattern, strlen(pattern) - 1);
}

/*
 * The types that the handler gets: of its own pattern, but for those that on a
 * mark_processed source go to more specific handlers.
 */
static void
bind_types(DbOptOwnerArgs *args, const DbOptDelivery *delivery)
{
	const DbOptHandler *handler = delivery->handler;
	bool		prefix = is_prefix(handler->event_type);
	List	   *exact = NIL;
	List	   *prefixes = NIL;
	ListCell   *cell;

	dbopt_owner_bind_text(args, prefix ? without_star(handler->event_type) :
						  handler->event_type);
	dbopt_owner_bind(args, BOOLOID, BoolGetDatum(prefix));
	foreach(cell, delivery->config->handlers)
	{
		DbOptHandler *other = lfirst(cell);

		if (!prefix || !handler->source->mark_processed || other == handler ||
			other->source != handler->source)
			continue;
		if (!is_prefix(other->event_type))
			exact = lappend(exact, other->event_type);
		else if (strlen(other->event_type) > strlen(handler->event_type))
			prefixes = lappend(prefixes, without_star(other->event_type));
	}
	bind_texts(args, exact);
	bind_texts(args, prefixes);
}

static char *
build_query(const DbOptLog *log, const char *key_column)
{
	Relation	rel = log->root;

	return psprintf("SELECT i.n, p.log_position, p.event_key, p.event_type, p.processed"
					" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
					" WITH ORDINALITY AS i (t, a, v, n)"
					" CROSS JOIN LATERAL (SELECT e.log_position,"
					" e.%s::pg_catalog.text AS event_key,"
					" e.event_type::pg_catalog.text AS event_type,"
					" %s AS processed FROM %s e"
					" WHERE e.aggregate_type OPERATOR(pg_catalog.=) i.t"
					" AND e.aggregate_id OPERATOR(pg_catalog.=) i.a"
					" AND e.aggregate_version OPERATOR(pg_catalog.<) i.v"
					" AND CASE WHEN $5"
					" THEN pg_catalog.starts_with(e.event_type::pg_catalog.text, $4)"
					" AND NOT (e.event_type::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) ANY ($6))"
					" AND NOT EXISTS (SELECT FROM pg_catalog.unnest($7) AS other (prefix)"
					" WHERE pg_catalog.starts_with(e.event_type::pg_catalog.text, other.prefix))"
					" ELSE e.event_type::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) $4 END"
					" ORDER BY e.aggregate_version DESC LIMIT 1) AS p",
					quote_identifier(key_column),
					log->unprocessed_only ? "e.processed" : "false",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel)));
}

/* The result, copied to the caller's memory. */
static List *
read_answer(const Question *question, uint64 rows, MemoryContext context)
{
	MemoryContext previous = MemoryContextSwitchTo(context);
	List	   *predecessors = NIL;

	for (uint64 row = 0; row < rows; row++)
	{
		Predecessor *predecessor = palloc(sizeof(Predecessor));
		bool		isnull;

		predecessor->of =
			question->events[dbopt_owner_int64(row, 1) - 1];
		predecessor->position = dbopt_owner_int64(row, 2);
		predecessor->key = pstrdup(dbopt_owner_text(row, 3));
		predecessor->event_type = pstrdup(dbopt_owner_text(row, 4));
		predecessor->processed =
			DatumGetBool(dbopt_owner_value(row, 5, &isnull)) && !isnull;
		predecessors = lappend(predecessors, predecessor);
	}
	MemoryContextSwitchTo(previous);
	return predecessors;
}

static List *
ask(const Question *question)
{
	const DbOptOrdered *ordered = question->ordered;
	const DbOptLog *log = ordered->log;
	MemoryContext context = CurrentMemoryContext;
	DbOptOwnerArgs args = {0};
	DbOptOwnerScope scope;
	char	   *query;
	List	   *predecessors;

	for (int column = 0; column < DBOPT_AGGREGATE_COLUMNS; column++)
		bind_values(&args, question, column);
	bind_types(&args, ordered->delivery);
	query = build_query(log, ordered->delivery->handler->source->key_column);
	dbopt_owner_begin_as(&scope, log->root->rd_rel->relowner,
						 SECURITY_LOCAL_USERID_CHANGE |
						 SECURITY_RESTRICTED_OPERATION);
	predecessors = read_answer(question, dbopt_owner_execute(query, &args),
							   context);
	dbopt_owner_end(&scope);
	return predecessors;
}

void
dbopt_predecessors_find(DbOptOrdered *ordered)
{
	Question	question;
	List	   *progress = NIL;
	ListCell   *cell;

	gather_question(&question, ordered);
	if (question.count == 0)
		return;
	foreach(cell, ask(&question))
	{
		Predecessor *predecessor = lfirst(cell);

		if (predecessor->processed ||
			dbopt_ordered_is_own(ordered, predecessor->position,
								 predecessor->key))
			continue;
		if (!dbopt_is_handed_out(ordered, &progress, predecessor->event_type,
								 predecessor->position, predecessor->key) ||
			dbopt_queue_has(ordered->delivery->handler->handler_id,
							predecessor->position, predecessor->key,
							ordered->snapshot))
			ordered->events[predecessor->of].behind_open = true;
	}
}
