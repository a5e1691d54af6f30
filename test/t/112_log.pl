# What the server log says: one line for each thing that happened, with a JSON
# object as its detail; no data; and no more than so many for a handler.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('log');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	logging_collector = on
	log_destination = jsonlog
	log_directory = 'log'
	log_filename = 'test.log'
	dbopt.environment = 'staging'
	dbopt.pool_min = 1
	dbopt.pool_max = 2
	dbopt.pool_acquire_timeout = '200 ms'
	max_worker_processes = 12
	log_statement = none
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

# Waits for a line that is so: a condition on its detail d, its message and
# its severity.
sub wait_for_line
{
	my ($name, $condition) = @_;

	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM lines WHERE $condition"), $name);
	return;
}

# What the first one of an operation says.
sub of_line
{
	my ($operation, $what) = @_;

	return sql("SELECT $what FROM lines WHERE d ->> 'operation' = '$operation' ORDER BY n LIMIT 1");
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE VIEW lines AS
		SELECT n, (line ->> 'timestamp')::timestamptz AS at, line ->> 'message' AS message, line ->> 'error_severity' AS severity, (line ->> 'detail')::jsonb AS d
		  FROM (SELECT n, l::jsonb AS line
				FROM string_to_table(pg_read_file('log/test.json'), E'\\n') WITH ORDINALITY AS x (l, n)
				WHERE l LIKE '{%"message":"dbopt: %}') y;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('quick', 2, '10 ms', '10 ms', 'none', true, 1000000), ('once', 2, '10 ms', '10 ms', 'none', true, 1);
	CREATE FUNCTION fail(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.002); -- work
		RAISE EXCEPTION 'secret %', e.data USING ERRCODE = 'AB123', DETAIL = 'secret', HINT = 'secret';
	END $$;
	SELECT dbopt_register_handler('quoted "é" handler', 'ONE', 'fail(events)', policy => 'quick');
	SELECT dbopt_register_handler('many', 'MANY', 'fail(events)', policy => 'quick');
	SELECT dbopt_register_handler('breaks', 'BREAKS', 'fail(events)', policy => 'once');
	CREATE FUNCTION put(type text, count int) RETURNS uuid LANGUAGE sql AS $$
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT type, 'test', dbopt_uuid_v7(), '"secret"' FROM generate_series(1, count) RETURNING id
	$$;
});

# ---- events --------------------------------------------------------------

my $id = sql(q{SELECT put('ONE', 1)});
is(sql('SELECT dbopt_drain()'), 't', 'an event fails twice');
wait_for_line('the retry has a line', q{d ->> 'operation' = 'event.retry'});
wait_for_line('giving up has one', q{d ->> 'operation' = 'event.give_up'});
is( of_line('event.retry', q{severity, (d ->> 'duration_ms')::numeric >= 2, d - 'duration_ms' =
		jsonb_build_object('environment', 'staging', 'operation', 'event.retry', 'handler', 'quoted "é" handler',
			'event_id', (SELECT id FROM events), 'event_type', 'ONE', 'attempt', 1, 'sqlstate', 'AB123', 'delay_ms', 10)}),
	'LOG|t|t', 'the retry with its particulars');
is( of_line('event.give_up', q{severity, (d ->> 'duration_ms')::numeric >= 2, d - 'duration_ms' =
		jsonb_build_object('environment', 'staging', 'operation', 'event.give_up', 'handler', 'quoted "é" handler',
			'event_id', (SELECT id FROM events), 'event_type', 'ONE', 'attempt', 2, 'sqlstate', 'AB123')}),
	'LOG|t|t', 'and the end');

# ---- how many ------------------------------------------------------------

sql(q{SELECT put('MANY', 300)});
is(sql('SELECT dbopt_drain()'), 't', '300 events fail twice');
foreach my $operation (qw(event.retry event.give_up))
{
	ok( $node->poll_query_until('postgres', qq{
		SELECT count(*) FILTER (WHERE NOT d ? 'left_out') BETWEEN 10 AND 50
			AND count(*) FILTER (WHERE NOT d ? 'left_out') + sum((d ->> 'left_out')::int) = 300
		  FROM lines WHERE d ->> 'operation' = '$operation' AND d ->> 'handler' = 'many'}),
		"$operation: some lines, and the number of the others");
}

# Where they keep coming, the number of those that one time had no room for is told
# when that is over, also when the next has begun with more by then.
sql(q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('never', 1, '10 ms', '10 ms', 'none', true, 1000000);
	CREATE FUNCTION refuse(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM count(*) FROM generate_series(1, 10000);
		RAISE 'never';
	END $$;
	CREATE VIEW steady AS SELECT n, at, d FROM lines WHERE d ->> 'handler' = 'steady';
	SELECT dbopt_register_handler('steady', 'STEADY', 'refuse(events)', policy => 'never');
	SELECT put('STEADY', 60000)});
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM steady') or die 'no lines';
my $scheduler = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'});
END { kill 'CONT', $scheduler if defined $scheduler; }
kill 'STOP', $scheduler;
ok($node->poll_query_until('postgres', 'SELECT count(*) > 10 FROM steady'), 'lines keep coming when there are too many');
kill 'CONT', $scheduler;
$scheduler = undef;
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM steady WHERE d ? 'left_out'}), '... and the number of the others');
is( sql(q{SELECT (SELECT min(at) FROM steady WHERE d ? 'left_out') - (SELECT at FROM steady ORDER BY n OFFSET 10 LIMIT 1) < '8 s'}),
	't', '... before that next time of 10 s is over');
sql(q{SELECT dbopt_unregister_handler('steady', discard => true)});

# ---- breakers ------------------------------------------------------------

sql(q{SELECT put('BREAKS', 1)});
wait_for_line('a breaker that opens has a line',
	q{d ->> 'operation' = 'breaker.opened' AND d ->> 'handler' = 'breaks' AND (d ->> 'delay_ms')::numeric > 1000});
sql(q{SELECT dbopt_reset_circuit_breaker('breaks'), dbopt_drain()});
wait_for_line('one that closes, too', q{d ->> 'operation' = 'breaker.closed' AND d ->> 'handler' = 'breaks'});

# ---- SQL -----------------------------------------------------------------

sql(q{UPDATE dbopt_retry_policy SET base_delay = '1 ms', max_attempts = 2 WHERE name = 'transaction'});
$node->psql('postgres',
	q{CALL dbopt_with_transaction_retry('DO $$BEGIN RAISE ''secret'' USING ERRCODE = ''40001''; END$$')});
wait_for_line('SQL that is tried again has a line',
	q{d @> '{"operation": "sql.retry", "policy": "transaction", "attempt": 1, "sqlstate": "40001"}'});
wait_for_line('and SQL that is given up', q{d @> '{"operation": "sql.give_up", "attempt": 2}'});

# ---- the pool ------------------------------------------------------------

$node->psql('postgres',
	q{SELECT dbopt_with_connection('SELECT dbopt_with_connection(''SELECT dbopt_with_connection(''''SELECT 1'''')'')')});
wait_for_line('a caller that finds no session has a line',
	q{d @> '{"operation": "pool", "sqlstate": "53300", "role": "postgres"}' AND (d ->> 'duration_ms')::numeric >= 200});
$node->psql('postgres', q{SELECT dbopt_with_connection('SELECT pg_terminate_backend(pg_backend_pid())')});
wait_for_line('a session that dies at work', q{d ->> 'operation' = 'pool' AND message ~ 'has died'});

# ---- indexes -------------------------------------------------------------

sql(q{SET dbopt.index_inline_pages = 0;
	CREATE TABLE users (id int, email text, status text, role text, created_at timestamptz);
	INSERT INTO users (id) VALUES (1);
	CALL dbopt_ensure_indexes('users', wait => true)});
wait_for_line('an index that is built has a line',
	q{d @> '{"operation": "index", "index": "idx_users_email_lower", "attempt": 1}' AND NOT d ? 'sqlstate' AND message ~ 'was built'});
# Those that cannot be: each attempt that fails, and the end.
sql(q{UPDATE dbopt_retry_policy SET base_delay = '3 ms', max_delay = '3 ms', jitter = 'none', max_attempts = 2
		WHERE name = 'database';
	CREATE FUNCTION moody(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'secret %', $1 USING ERRCODE = 'serialization_failure';
	END $$;
	CREATE TABLE twins (name text);
	INSERT INTO twins VALUES ('secret'), ('secret');
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES
		('twins_once', 'twins', '(name)', true), ('twins_moody', 'twins', '(public.moody(name))', false)});
$node->psql('postgres', q{SET dbopt.index_inline_pages = 0; CALL dbopt_ensure_indexes('twins', wait => true)});
wait_for_line('an index that is given up at once',
	q{d @> '{"operation": "index", "index": "twins_once", "attempt": 1, "sqlstate": "23505"}' AND NOT d ? 'delay_ms'
		AND message ~ 'given up after 1 attempt$'});
wait_for_line('an attempt that is followed by another',
	q{d @> '{"operation": "index", "index": "twins_moody", "attempt": 1, "sqlstate": "40001"}'
		AND (d ->> 'delay_ms')::numeric BETWEEN 0 AND 3 AND message ~ 'tried again'});
wait_for_line('and the last one',
	q{d @> '{"operation": "index", "index": "twins_moody", "attempt": 2, "sqlstate": "40001"}' AND NOT d ? 'delay_ms'
		AND message ~ 'given up after 2 attempts$'});
is( sql(q{SELECT count(*) FROM lines WHERE d ->> 'index' ~ 'twins'}), 3, 'each has one line');

# ---- what is not said, and the level -------------------------------------

is(sql(q{SELECT count(*) FROM lines WHERE lines::text ~ 'secret'}), 0, 'no line has data');
sql(q{SET dbopt.log_level = 'debug1'; SELECT dbopt_trip_circuit_breaker('breaks')});
is(sql(q{SELECT count(*) FROM lines WHERE message ~ 'by hand'}), 0, 'nothing is logged below log_min_messages');
sql(q{SELECT dbopt_reset_circuit_breaker('breaks')});
sql(q{SET dbopt.log_level = 'warning'; SELECT dbopt_trip_circuit_breaker('breaks')});
wait_for_line('but above it', q{message ~ 'by hand' AND severity = 'WARNING'});

$node->stop;
done_testing();
