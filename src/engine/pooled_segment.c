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

/* ---- the caller ---------------------------------------------------------- */

void
dbopt_pooled_text_put(StringInfo texts, const char *text)
{
	int32		length = text == NULL ? NULL_LENGTH : (int32) strlen(text);

	appendBinaryStringInfo(texts, (char *) &length, sizeof(length));
	if (text !=NULL)
		appendBinaryStringInfo(texts, text, length + 1);
}

static void
put_request(StringInfo texts, const DbOptPooledRequest *request)
{
	for (int i = 0; i < request->nstatements; i++)
		dbopt_pooled_text_put(texts, request->statements[i]);
	for (int i = 0; i < request->nparams; i++)
		dbopt_pooled_text_put(texts, request->params[i]);
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
	const StringInfoData *settings = dbopt_pooled_settings_get();
	shm_toc    *toc;
	Size		size;
	Head	   *head;
	char	   *place;

	initStringInfo(&texts);
	appendBinaryStringInfo(&texts, settings->data, settings->len);
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
	fill_head(head, settings->len, request);
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
char *
dbopt_pooled_text_take(char **place)
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
		list[i] = dbopt_pooled_text_take(place);
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

void
dbopt_pooled_segment_settings(const DbOptPooledSegment *segment)
{
	shm_toc    *toc = find_toc(segment->segment);
	const Head *head = shm_toc_lookup(toc, KEY_HEAD, false);

	dbopt_pooled_settings_apply(shm_toc_lookup(toc, KEY_TEXTS, false),
								head->settings_length);
}
