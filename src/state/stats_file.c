/*
 * stats_file.c
 *		Handler slots across a clean restart.
 *
 * Run by the postmaster alone, when no other process is attached: at its exit
 * the slots in use are written to a file, at its start they are read back and
 * the file is removed.  So no lock is taken, and so the file's presence is the
 * mark of an end that was wanted: it is written under a temporary name and
 * renamed, and its removal is made durable before the first process starts.
 * After an immediate shutdown, which writes no checkpoint, it has no slots.
 *
 * A damaged file is no mark.  One of another version is: only its contents
 * are lost.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "state/stats.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#define STATS_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/dbopt.stat"
#define STATS_MAGIC		0x64624f70
#define STATS_VERSION	1

typedef struct DbOptStatsHeader
{
	uint32		magic;
	uint32		version;
	uint32		entry_size;
	uint32		entries;
} DbOptStatsHeader;

/* What a slot has but for locks, atomics and generation. */
typedef struct DbOptSavedHandler
{
	Oid			dboid;
	int32		handler_id;
	NameData	name;
	DbOptBreakerConfig breaker_config;
	DbOptBreaker breaker;
	DbOptCounters counters;
	double		failure_rate;
	double		mean_time;
	char		last_error_code[6];
	char		last_error[DBOPT_ERROR_LENGTH];
	TimestampTz last_error_at;
	TimestampTz last_success_at;
	TimestampTz stats_since;
} DbOptSavedHandler;

static void
pack(DbOptSavedHandler *saved, const DbOptHandlerState *state)
{
	memset(saved, 0, sizeof(*saved));
	saved->dboid = state->dboid;
	saved->handler_id = state->handler_id;
	saved->name = state->name;
	saved->breaker_config = state->breaker_config;
	saved->breaker = state->breaker;
	saved->counters = state->counters;
	saved->failure_rate = state->failure_rate;
	saved->mean_time = state->mean_time;
	memcpy(saved->last_error_code, state->last_error_code,
		   sizeof(saved->last_error_code));
	memcpy(saved->last_error, state->last_error, sizeof(saved->last_error));
	saved->last_error_at = state->last_error_at;
	saved->last_success_at = state->last_success_at;
	saved->stats_since = state->stats_since;
}

/* The reverse.  Trials that were out will never report: trials start anew. */
static void
unpack(DbOptHandlerState *state, const DbOptSavedHandler *saved)
{
	state->dboid = saved->dboid;
	state->handler_id = saved->handler_id;
	state->generation++;
	state->name = saved->name;
	state->breaker_config = saved->breaker_config;
	state->breaker = saved->breaker;
	state->breaker.trials = 0;
	state->counters = saved->counters;
	state->failure_rate = saved->failure_rate;
	state->mean_time = saved->mean_time;
	memcpy(state->last_error_code, saved->last_error_code,
		   sizeof(state->last_error_code));
	memcpy(state->last_error, saved->last_error, sizeof(state->last_error));
	state->last_error_at = saved->last_error_at;
	state->last_success_at = saved->last_success_at;
	state->stats_since = saved->stats_since;
	pg_atomic_write_u64(&state->next_retry_at, PG_INT64_MAX);
	pg_atomic_write_u32(&state->in_flight, 0);
}

/* Has the shutdown checkpoint been written? */
static bool
shut_down_cleanly(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		clean = crc_ok &&
	(control->state == DB_SHUTDOWNED ||
	 control->state == DB_SHUTDOWNED_IN_RECOVERY);

	pfree(control);
	return clean;
}

static bool
write_part(FILE *file, const void *data, size_t size, pg_crc32c *crc)
{
	COMP_CRC32C(*crc, data, size);
	return fwrite(data, size, 1, file) == 1;
}

static bool
write_slots(FILE *file, bool clean)
{
	DbOptStatsHeader header = {STATS_MAGIC, STATS_VERSION,
	sizeof(DbOptSavedHandler), 0};
	pg_crc32c	crc;

	for (int number = 0; clean && number < dbopt_shared->max_handlers; number++)
		if (OidIsValid(dbopt_handler_slot(number)->dboid))
			header.entries++;

	INIT_CRC32C(crc);
	if (!write_part(file, &header, sizeof(header), &crc))
		return false;
	for (int number = 0; clean && number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);
		DbOptSavedHandler saved;

		if (!OidIsValid(state->dboid))
			continue;
		pack(&saved, state);
		if (!write_part(file, &saved, sizeof(saved), &crc))
			return false;
	}
	for (int number = 0; clean && number < dbopt_shared->max_handlers; number++)
	{
		DbOptHandlerState *state = dbopt_handler_slot(number);

		if (OidIsValid(state->dboid) &&
			!write_part(file, &state->extension, sizeof(Oid), &crc))
			return false;
	}
	FIN_CRC32C(crc);
	return fwrite(&crc, sizeof(crc), 1, file) == 1;
}

/*
 * Exit callback of the postmaster.  After a crash, of which code is not 0,
 * nothing is written.
 */
void
dbopt_stats_save(int code, Datum arg)
{
	const char *temporary = STATS_FILE ".tmp";
	FILE	   *file;
	bool		written;

	if (code != 0 || dbopt_shared == NULL || IsUnderPostmaster)
		return;

	file = AllocateFile(temporary, PG_BINARY_W);
	written = file != NULL && write_slots(file, shut_down_cleanly());
	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (!written)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
		unlink(temporary);
		return;
	}
	(void) durable_rename(temporary, STATS_FILE, LOG);
}

/* Reads the whole file; NULL when that fails. */
static char *
read_all(FILE *file, size_t *size)
{
	struct stat status;
	char	   *data;

	if (fstat(fileno(file), &status) != 0 ||
		status.st_size > (off_t) MaxAllocSize)
		return NULL;
	*size = (size_t) status.st_size;
	data = palloc(*size + 1);
	if (fread(data, 1, *size, file) != *size)
	{
		pfree(data);
		return NULL;
	}
	return data;
}

/* Is this what write_slots() wrote, now or in another version? */
static bool
intact(const char *data, size_t size)
{
	pg_crc32c	computed;
	pg_crc32c	stored;

	if (size < sizeof(DbOptStatsHeader) + sizeof(pg_crc32c) ||
		((const DbOptStatsHeader *) data)->magic != STATS_MAGIC)
		return false;
	size -= sizeof(pg_crc32c);
	memcpy(&stored, data + size, sizeof(stored));
	INIT_CRC32C(computed);
	COMP_CRC32C(computed, data, size);
	FIN_CRC32C(computed);
	return EQ_CRC32C(computed, stored);
}

/* Behind all entries, since version 1.0 knows none: the entries' extensions. */
static Oid
extension_of(const DbOptStatsHeader *header, size_t size, uint32 number)
{
	size_t		place = sizeof(*header) +
	header->entries * sizeof(DbOptSavedHandler) + number * sizeof(Oid);
	Oid			extension = InvalidOid;

	if (place + sizeof(Oid) + sizeof(pg_crc32c) <= size)
		memcpy(&extension, (const char *) header + place, sizeof(Oid));
	return extension;
}

/* Fills the slots, as many as there are. */
static void
restore_slots(const char *data, size_t size)
{
	const DbOptStatsHeader *header = (const DbOptStatsHeader *) data;
	const char *entry = data + sizeof(DbOptStatsHeader);
	DbOptSavedHandler saved;
	size_t		least = sizeof(*header) + sizeof(pg_crc32c) +
	header->entries * sizeof(saved);

	if (header->version != STATS_VERSION ||
		header->entry_size != sizeof(saved) ||
		(size != least && size != least + header->entries * sizeof(Oid)))
	{
		ereport(LOG,
				(errmsg("statistics in file \"%s\" are of another version and start anew",
						STATS_FILE)));
		return;
	}

	for (uint32 number = 0; number < header->entries &&
		 number < (uint32) dbopt_shared->max_handlers; number++)
	{
		memcpy(&saved, entry, sizeof(saved));
		entry += sizeof(saved);
		unpack(dbopt_handler_slot(number), &saved);
		dbopt_handler_slot(number)->extension = extension_of(header, size,
															 number);
	}
}

/* Called when shared memory has been set up and nobody else can see it. */
bool
dbopt_stats_load(void)
{
	FILE	   *file = AllocateFile(STATS_FILE, PG_BINARY_R);
	size_t		size;
	char	   *data;
	bool		clean;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", STATS_FILE)));
		return false;
	}

	data = read_all(file, &size);
	FreeFile(file);
	clean = data != NULL && intact(data, size);
	if (clean)
		restore_slots(data, size);
	else
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring damaged file \"%s\"", STATS_FILE)));
	if (data != NULL)
		pfree(data);
	(void) durable_unlink(STATS_FILE, LOG);
	return clean;
}
