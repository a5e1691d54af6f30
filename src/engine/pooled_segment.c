/*
 * pooled_segment.c
 *		The segment of shared memory through which a caller and the pool
 *		session that runs its SQL talk.
 *
 * Made by the caller for one call, and opened by the session.  It has a head, a
 * series of texts (the settings that the session takes over, the statements,
 * the parameters), each with its length in front, and a queue.  But for "gone"
 * and the queue it is constant once the caller has put itself into the queue
 * of callers.
 */
#include "postgres.h"

#include "engine/pooled.h"
#include "lib/stringinfo.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAGIC			0x44424f50
#define KEY_HEAD		1
#define KEY_TEXTS		2
#define KEY_QUEUE		3
#define NULL_LENGTH		(-1)

typedef struct Head
{
	pg_atomic_uint32 gone;
	int			settings_length;	/* of their texts, which come first */
	int			isolation;
	int			nstatements;
	int			nparams;
} Head;

/*
 * What makes a statement mean and print what it would for the caller.  All
 * others are the role's own, as in a new connection.
 */
static const char *const settings[] = {
	"search_path",
	"row_security",
	"standard_conforming_strings",
	"TimeZone",
	"DateStyle",
	"IntervalStyle",
	"extra_float_digits",
	"bytea_output",
	"client_min_messages",
	"lock_timeout"
};

/* ---- the caller ---------------------------------------------------------- */

static void
put_text(StringInfo texts, const char *text)
{
	int32		length = text == NULL ? NULL_LENGTH : (int32) strlen(text);

	appendBinaryStringInfo(texts, (char *) &length, sizeof(length));
	if (text !=NULL)
		appendBinaryStringInfo(texts, text, length + 1);
}

static void
put_settings(StringInfo texts)
{
	for (int i = 0; i < lengthof(settings); i++)
		put_text(texts, GetConfigOption(settings[i], false, false));
}

static void
put_request(StringInfo texts, const DbOptPooledRequest *request)
{
	for (int i = 0; i < request->nstatements; i++)
		put_text(texts, request->statements[i]);
	for (int i = 0; i < request->nparams; i++)
		put_text(texts, request->params[i]);
}

static void
fill_head(Head *head, int settings_length, const DbOptPooledRequest *request)
{
	pg_atomic_init_u32(&head->gone, 0);
	head->settings_length = settings_length;
	head->isolation = request->isolation;
	head->nstatements = request->nstatements;
	head->nparams = request->nparams;
}

void
dbopt_pooled_segment_make(const DbOptPooledRequest *request,
						  DbOptPooledSegment *result)
{
	shm_toc_estimator estimator;
	StringInfoData texts;
	int			settings_length;
	shm_toc    *toc;
	Size		size;
	Head	   *head;
	char	   *place;

	initStringInfo(&texts);
	put_settings(&texts);
	settings_length = texts.len;
	put_request(&texts, request);
	shm_toc_initialize_estimator(&estimator);
	shm_toc_estimate_chunk(&estimator, sizeof(Head));
	shm_toc_estimate_chunk(&estimator, texts.len);
	shm_toc_estimate_chunk(&estimator, DBOPT_POOLED_QUEUE_SIZE);
	shm_toc_estimate_keys(&estimator, 3);
	size = shm_toc_estimate(&estimator);

	result->segment = dsm_create(size, 0);
	toc = shm_toc_create(MAGIC, dsm_segment_address(result->segment), size);
	head = shm_toc_allocate(toc, sizeof(Head));
	fill_head(head, settings_length, request);
	shm_toc_insert(toc, KEY_HEAD, head);
	place = shm_toc_allocate(toc, texts.len);
	memcpy(place, texts.data, texts.len);
	shm_toc_insert(toc, KEY_TEXTS, place);
	result->queue = shm_mq_create(shm_toc_allocate(toc, DBOPT_POOLED_QUEUE_SIZE),
								  DBOPT_POOLED_QUEUE_SIZE);
	shm_toc_insert(toc, KEY_QUEUE, result->queue);
	result->gone = &head->gone;
	pfree(texts.data);
}

/* ---- the session --------------------------------------------------------- */

static shm_toc *
find_toc(dsm_segment *segment)
{
	shm_toc    *toc = shm_toc_attach(MAGIC, dsm_segment_address(segment));

	if (toc == NULL)
		elog(ERROR, "not a segment of a caller");
	return toc;
}

bool
dbopt_pooled_segment_open(dsm_handle handle, DbOptPooledSegment *result)
{
	shm_toc    *toc;

	result->segment = dsm_attach(handle);
	if (result->segment == NULL)
		return false;
	toc = find_toc(result->segment);
	result->gone = &((Head *) shm_toc_lookup(toc, KEY_HEAD, false))->gone;
	result->queue = shm_toc_lookup(toc, KEY_QUEUE, false);
	return true;
}

/* The text in front of the place, which moves behind it. */
static char *
take_text(char **place)
{
	int32		length;
	char	   *text = *place + sizeof(length);

	memcpy(&length, *place, sizeof(length));
	*place = text;

	if (length == NULL_LENGTH)
		return NULL;
	*place += length + 1;
	return text;
}

static char **
take_list(char **place, int count)
{
	char	  **list = palloc(Max(count, 1) * sizeof(char *));

	for (int i = 0; i < count; i++)
		list[i] = take_text(place);
	return list;
}

void
dbopt_pooled_segment_read(const DbOptPooledSegment *segment,
						  DbOptPooledRequest *request)
{
	shm_toc    *toc = find_toc(segment->segment);
	Head	   *head = shm_toc_lookup(toc, KEY_HEAD, false);
	char	   *place = shm_toc_lookup(toc, KEY_TEXTS, false);

	place += head->settings_length;
	memset(request, 0, sizeof(*request));
	request->isolation = head->isolation;
	request->nstatements = head->nstatements;
	request->statements = take_list(&place, head->nstatements);
	request->nparams = head->nparams;
	request->params = take_list(&place, head->nparams);
}

/*
 * The settings of a session that has been reset, in the form of a caller's;
 * found out again when the configuration has been.
 */
static const StringInfoData *
own_settings(void)
{
	static StringInfoData own;
	static TimestampTz loaded;	/* the configuration that they are of */

	if (own.data != NULL && loaded == PgReloadTime)
		return &own;
	if (own.data == NULL)
	{
		MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&own);
		MemoryContextSwitchTo(previous);
	}
	resetStringInfo(&own);
	put_settings(&own);
	loaded = PgReloadTime;
	return &own;
}

/* Most callers have those of the session: then there is nothing to be set. */
void
dbopt_pooled_settings_apply(const DbOptPooledSegment *segment)
{
	shm_toc    *toc = find_toc(segment->segment);
	const Head *head = shm_toc_lookup(toc, KEY_HEAD, false);
	char	   *place = shm_toc_lookup(toc, KEY_TEXTS, false);
	const StringInfoData *own = own_settings();

	if (head->settings_length == own->len &&
		memcmp(place, own->data, own->len) == 0)
		return;
	for (int i = 0; i < lengthof(settings); i++)
	{
		const char *value = take_text(&place);

		if (strcmp(value, GetConfigOption(settings[i], false, false)) != 0)
			SetConfigOption(settings[i], value, PGC_USERSET, PGC_S_SESSION);
	}
}
