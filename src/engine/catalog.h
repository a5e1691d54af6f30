/*
 * catalog.h
 *		The extension's own tables, by number of column, and how the engine
 *		reads and writes them.
 *
 * The engine touches its tables by heap and index access alone: no SQL, so no
 * search_path, no operator, trigger, policy or privilege of anybody comes into
 * it, whoever the session is.  OIDs are cached per backend and forgotten when
 * the extension changes.
 */
#ifndef DBOPT_CATALOG_H
#define DBOPT_CATALOG_H

#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef enum DbOptTable
{
	DBOPT_DATABASE,
	DBOPT_SOURCE,
	DBOPT_RETRY_POLICY,
	DBOPT_RETRYABLE_ERROR,
	DBOPT_HANDLER,
	DBOPT_CURSOR,
	DBOPT_CURSOR_VERSION,
	DBOPT_CHUNK,
	DBOPT_RETRY_QUEUE,
	DBOPT_DEAD_LETTER,
	DBOPT_ORDERED,
	DBOPT_INDEX,
	DBOPT_INDEX_STATE,
	DBOPT_ATTEMPT,
	DBOPT_BUILD_RATE,			/* not in SQL version 1.0 */
	DBOPT_TABLES				/* how many */
} DbOptTable;

/* Columns, in the order of the install script. */
enum
{
	Anum_database_system_identifier = 2,
	Anum_database_oid,
	Anum_database_position_offset,
	Anum_database_paused,
	Natts_database_old = 5,		/* of version 1.0 */
	Anum_database_table_oid,
	Natts_database = 6
};

enum
{
	Anum_source_id = 1,
	Anum_source_events_oid,
	Anum_source_events_schema,
	Anum_source_events_name,
	Anum_source_key_column,
	Anum_source_mark_processed,
	Anum_source_state,
	Anum_source_reason,
	Anum_source_attached_at,
	Anum_source_build_failure,
	Natts_source = 10
};

enum
{
	Anum_policy_name = 1,
	Anum_policy_max_attempts,
	Anum_policy_base_delay,
	Anum_policy_max_delay,
	Anum_policy_multiplier,
	Anum_policy_jitter,
	Anum_policy_adaptive,
	Anum_policy_retry_unknown,
	Anum_policy_failure_threshold,
	Anum_policy_reset_timeout,
	Anum_policy_half_open_trials,
	Anum_policy_shipped,
	Anum_policy_edited,
	Natts_policy = 13
};

enum
{
	Anum_error_policy = 1,
	Anum_error_sqlstate,
	Anum_error_pattern,
	Anum_error_retryable,
	Anum_error_shipped,
	Anum_error_edited,
	Natts_error = 6
};

enum
{
	Anum_handler_id = 1,
	Anum_handler_name,
	Anum_handler_event_type,
	Anum_handler_source_id,
	Anum_handler_function_oid,
	Anum_handler_function_schema,
	Anum_handler_function_name,
	Anum_handler_argument_kind,
	Anum_handler_role_oid,
	Anum_handler_role_name,
	Anum_handler_policy,
	Anum_handler_max_concurrency,
	Anum_handler_chunk_size,
	Anum_handler_timeout,
	Anum_handler_priority,
	Anum_handler_ordered,
	Anum_handler_start_position,
	Anum_handler_start_holes,
	Anum_handler_paused,
	Anum_handler_state,
	Anum_handler_reason,
	Anum_handler_registered_at,
	Natts_handler = 22
};

enum
{
	Anum_cursor_id = 1,
	Anum_cursor_source_id,
	Anum_cursor_handler_id,
	Anum_cursor_event_type,
	Natts_cursor = 4
};

enum
{
	Anum_version_cursor_id = 1,
	Anum_version_seq,
	Anum_version_last_position,
	Anum_version_last_key,
	Anum_version_holes,
	Anum_version_hole_position,
	Anum_version_hole_key,
	Natts_version = 7
};

enum
{
	Anum_chunk_cursor_id = 1,
	Anum_chunk_seq,
	Anum_chunk_from_position,
	Anum_chunk_from_key,
	Anum_chunk_to_position,
	Anum_chunk_to_key,
	Anum_chunk_exclude,
	Anum_chunk_positions,
	Anum_chunk_events,
	Anum_chunk_suspicion,
	Anum_chunk_handed_out_at,
	Natts_chunk = 11
};

enum
{
	Anum_retry_handler_id = 1,
	Anum_retry_log_position,
	Anum_retry_event_key,
	Anum_retry_event_type,
	Anum_retry_attempts,
	Anum_retry_next_retry_at,
	Anum_retry_first_failed_at,
	Anum_retry_failed_at,
	Anum_retry_error_code,
	Anum_retry_error_message,
	Anum_retry_suspicion,
	Natts_retry = 11
};

enum
{
	Anum_dead_handler_id = 1,
	Anum_dead_log_position,
	Anum_dead_event_key,
	Anum_dead_event_type,
	Anum_dead_attempts,
	Anum_dead_error_code,
	Anum_dead_error_message,
	Anum_dead_first_failed_at,
	Anum_dead_failed_at,
	Natts_dead = 9
};

enum
{
	Anum_ordered_handler_id = 1,
	Anum_ordered_log_position,
	Anum_ordered_event_key,
	Anum_ordered_aggregate_type,
	Anum_ordered_aggregate_id,
	Anum_ordered_version,
	Anum_ordered_aggregate_hash,
	Anum_ordered_version_order,
	Natts_ordered = 8
};

enum
{
	Anum_index_name = 1,
	Anum_index_table_name,
	Anum_index_definition,
	Anum_index_purpose,
	Anum_index_is_unique,
	Anum_index_alternatives,
	Anum_index_enabled,
	Anum_index_author,
	Anum_index_author_oid,
	Anum_index_shipped,
	Anum_index_edited,
	Natts_index = 11
};

enum
{
	Anum_state_name = 1,
	Anum_state_index_schema,
	Anum_state_index_oid,
	Anum_state_built,
	Anum_state_state,
	Anum_state_attempts,
	Anum_state_next_attempt_at,
	Anum_state_error_code,
	Anum_state_error_message,
	Anum_state_failed_at,
	Natts_state_old = 10,		/* of version 1.0 */
	Anum_state_declaration,
	Anum_state_table_oid,
	Anum_state_definition,
	Anum_state_began_without,
	Natts_state = 14
};

enum
{
	Anum_rate_method = 1,
	Anum_rate_magnitude,
	Anum_rate_builds,
	Anum_rate_factor,
	Natts_rate = 4
};

enum
{
	Anum_attempt_token = 1,
	Anum_attempt_incarnation,
	Anum_attempt_handler_id,
	Anum_attempt_cursor_id,
	Anum_attempt_seq,
	Anum_attempt_log_position,
	Anum_attempt_event_key,
	Anum_attempt_crashed,
	Anum_attempt_started_at,
	Natts_attempt = 9
};

/* InvalidOid when the extension is not installed in this database. */
extern Oid	dbopt_schema_oid(void);
extern Oid	dbopt_table_oid(DbOptTable table);
extern Oid	dbopt_table_index_oid(DbOptTable table);	/* its primary key */
extern Oid	dbopt_retry_due_index_oid(void);
extern Oid	dbopt_ordered_aggregate_index_oid(void);
extern Oid	dbopt_cursor_identity_index_oid(void);
extern Oid	dbopt_cursor_sequence_oid(void);
extern Oid	dbopt_stamp_oid(void);

/* Any relation's owner; InvalidOid: it is gone. */
extern Oid	dbopt_relation_owner(Oid relid);

/*
 * Who runs what is written in our tables: they must be a superuser's.  Another
 * owner, whom REASSIGN OWNED may give them to; InvalidOid: there is none.
 */
extern Oid	dbopt_tables_unfit_owner(void);

/* Is this one of our tables, or does the message mean every table? */
extern bool dbopt_table_is(Oid relid, DbOptTable table);

/* Opens one of our tables; 55000 when the extension is not installed. */
extern Relation dbopt_table_open(DbOptTable table, int lockmode);

/* A new snapshot that sees all that has committed until now; registered. */
extern Snapshot dbopt_snapshot_new(void);

/* "@extschema@" in a text replaced by the quoted schema; palloc'd. */
extern char *dbopt_sql(const char *text);

/* bigint[] to and from C; NULL or empty gives 0 elements. */
extern int	dbopt_positions_from_array(Datum array, int64 **positions);
extern Datum dbopt_positions_to_array(const int64 *positions, int count);

#endif							/* DBOPT_CATALOG_H */
