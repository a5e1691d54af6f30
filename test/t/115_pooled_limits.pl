# SQL of callers over the long run: memory on both sides, what one caller could
# leave to the next, the death of a caller, deadlocks by way of others; and
# the delays of adaptive policies.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pooled_limits');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	deadlock_timeout = '50 ms'
	fsync = off
	max_connections = 200
	wal_level = logical
	work_mem = '1 MB'
	dbopt.pool_max = 1
	dbopt.pool_idle_timeout = '1 h'
});
$node->start;
asking($node);

sub start_psql
{
	my ($statement) = @_;

	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $statement ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
}

# A call of a statement without quotes in it.
sub call
{
	my ($statement) = @_;

	return "dbopt_with_connection(\$q\$$statement\$q\$)";
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN;
	GRANT pg_monitor TO app;
	CREATE SEQUENCE numbers;
	GRANT USAGE ON SEQUENCE numbers TO app;
	CREATE TABLE note (t text);
	GRANT ALL ON note TO app;
	SELECT pg_replication_origin_create('elsewhere');
	GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup, pg_replication_origin_session_is_setup TO app;
});

# ---- memory --------------------------------------------------------------

# Bytes that the backend of a caller, and the session, have from the system.
my $bytes = 'SELECT sum(total_bytes) AS b FROM pg_backend_memory_contexts';
my $look = "SELECT ($bytes) || ' ' || (SELECT sum((x ->> 'b')::bigint) FROM " . call($bytes) . ' x)';

sub grown
{
	my ($statement) = @_;
	my @seen = split /[\s|]+/, sql("$statement;\n$look;\n$statement;\n$look");

	@seen = grep { /^\d+$/ } @seen;
	return ($seen[-2] - $seen[-5], $seen[-1] - $seen[-4]);
}

my $many = 'SELECT count(*) FROM ' . call(q{SELECT i, repeat('x', 100) AS t FROM generate_series(1, 1000000) i});
my ($caller, $session) = grown($many);
cmp_ok($caller, '<', 500_000, 'a million rows leave nothing in the caller');
cmp_ok($session, '<', 500_000, 'nor in the session');

# While 100 MB of them are on their way, some of them say what the session has:
# by a function, since what a query has read of it once it keeps.
sql("CREATE FUNCTION bytes() RETURNS bigint LANGUAGE sql VOLATILE AS '$bytes'");
is( sql( q{SELECT max((x ->> 'b')::bigint) - min((x ->> 'b')::bigint) < 1000000 FROM }
		  . call(qq{SELECT repeat('x', 1000) AS t, i AS n, point(i, i) AS p, CASE WHEN i % 20000 = 0 THEN bytes() END AS b FROM generate_series(1, 100000) i})
		  . ' x'),
	't',
	'while rows are sent, the session holds few of them');

# The most that the caller's process has had at a time, in kB: rows that do not
# fit into work_mem, notices, and looks for deadlocks, which may go on for days.
SKIP:
{
	skip 'the system does not tell what a process has had', 3 if !-r '/proc/self/status';
	sql(q{CREATE FUNCTION peak() RETURNS int LANGUAGE sql AS
		$$SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s+(\\d+)')::int$$});
	my %most = (
		'a million rows' => [ $many, 20_000 ],
		'50,000 notices' => [ 'SELECT ' . call(q{DO 'BEGIN FOR i IN 1 .. 50000 LOOP RAISE NOTICE ''%'', i; END LOOP; END'}), 20_000 ],
		'a statement that lasts' => [ q{SET deadlock_timeout = '1 ms'; SELECT } . call('SELECT pg_sleep(3) -- work'), 10_000 ]);
	foreach my $what (sort keys %most)
	{
		my ($statement, $most) = @{ $most{$what} };
		my (undef, $printed) = $node->psql('postgres', 'SELECT ' . call('SELECT 1') . "; SELECT peak(); $statement; SELECT peak()");
		my @peaks = $printed =~ /^(\d+)$/mg;

		cmp_ok($peaks[-1] - $peaks[0], '<', $most, "$what: the caller keeps none of them");
	}
}

# What a session needs for one statement is not there for the next.
my $b = sql('SELECT * FROM ' . call("SELECT 1; $bytes")) =~ s/\D//gr;
cmp_ok(sql(q{SELECT x -> 'b' FROM dbopt_with_connection(repeat('SELECT 1;', 20000) || '} . "$bytes') x") - $b,
	'<', 20_000 * 2_000, '20,000 statements in a text');

sql(q{CREATE FUNCTION call_often(n int) RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			BEGIN
				PERFORM dbopt_with_connection(CASE i % 3 WHEN 0 THEN 'SELECT 1/0' WHEN 1 THEN 'SELECT 1' ELSE 'INSERT INTO note VALUES ($1)' END,
					CASE WHEN i % 3 = 2 THEN ARRAY[repeat('x', 1000)] ELSE '{}' END);
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
		END LOOP;
		RETURN n;
	END $$});
($caller, $session) = grown('SELECT call_often(5000)');
cmp_ok($caller, '<', 300_000, '10,000 calls, a third of which fail, leave nothing in the caller');
cmp_ok($session, '<', 300_000, 'nor in the session');

# ---- what one caller could leave to the next -----------------------------

my $state = q{SELECT jsonb_build_object(
	'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name NOT IN ('transaction_read_only', 'seed')),
	'user', current_user, 'role', current_setting('role'), 'session', session_user, 'own', nullif(current_setting('my.own', true), ''),
	'temporary', (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
	'prepared', (SELECT count(*) FROM pg_prepared_statements),
	'cursors', (SELECT count(*) FROM pg_cursors WHERE name <> ''),
	'listens', (SELECT count(*) FROM pg_listening_channels()),
	'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
	'origin', pg_replication_origin_session_is_setup()) AS s};
my $pid = sql("SET ROLE app; SELECT * FROM " . call('SELECT pg_backend_pid() AS p'));
my $fresh = sql("SET ROLE app; SELECT * FROM " . call($state));
my %leavings = (
	'settings' => q{SET work_mem = '7MB'; SET search_path = pg_temp; SET my.own = 'x'; SET statement_timeout = 1},
	'read only' => 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE',
	'temporary tables' => 'CREATE TEMP TABLE mine (a int); CREATE TEMP SEQUENCE mine_too',
	'prepared statements' => 'PREPARE mine AS SELECT 1',
	'advisory locks' => 'SELECT pg_advisory_lock(i), pg_advisory_lock_shared(7) FROM generate_series(1, 5) i',
	'cursors' => 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1',
	'listens' => 'LISTEN mine; LISTEN other',
	'a role' => 'SET ROLE pg_monitor',
	'its own role' => 'SET ROLE app',
	'a replication origin' => q{SELECT pg_replication_origin_session_setup('elsewhere')},
	'an error after all that' => q{SET my.own = 'y'; SELECT set_config('work_mem', '9MB', false), pg_advisory_lock(9); SELECT 1/0});
foreach my $what (sort keys %leavings)
{
	$node->psql('postgres', "SET ROLE app; SELECT " . call($leavings{$what}));
	is(sql("SET ROLE app; SELECT * FROM " . call($state)), $fresh, "$what: nothing of it is left");
}
is(sql("SET ROLE app; SELECT * FROM " . call('SELECT pg_backend_pid() AS p')), $pid, 'all in one session');

# Superusers may be others altogether.
$fresh = sql('SELECT * FROM ' . call($state));
foreach my $become ('SET SESSION AUTHORIZATION app', 'SET SESSION AUTHORIZATION app; SET ROLE app', 'SET ROLE app')
{
	is(sql('SELECT count(*) FROM ' . call("$become; SELECT current_user")), 1, $become);
	is(sql('SELECT * FROM ' . call($state)), $fresh, '... is not left to the next');
}
foreach my $function ('lastval()', q{currval('numbers')})
{
	sql("SET ROLE app; SELECT " . call(q{SELECT nextval('numbers')}));
	my ($status, $printed, $errors) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET ROLE app; SELECT " . call("SELECT $function"));
	like($errors, qr/ERROR:  55000/, "$function: nor that");
}
my @random = map {
	sql("SET ROLE app; SELECT " . call('SELECT setseed(0.5)'));
	sql("SET ROLE app; SELECT * FROM " . call('SELECT random() AS r'))
} 1 .. 2;
isnt($random[0], $random[1], 'nor the seed of random numbers');

# What literals and operators of a function mean, which the session's plans keep:
# in a new connection, under a setting or none, and in the session.
sql(q{
	CREATE FUNCTION literals() RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		RETURN jsonb_build_object('time', extract(epoch FROM timestamptz '2026-01-01 00:00'),
			'date', to_char(date '01/02/2026', 'YYYY-MM-DD'), 'interval', extract(epoch FROM interval '-1 2:00'),
			'array', ('{NULL}'::text[])[1], 'null', (SELECT count(*) FROM (VALUES (NULL::int)) v (x) WHERE x = NULL));
	END $$});
my %meanings = (
	timezone => q{'Asia/Tokyo'}, datestyle => q{'ISO, DMY'}, intervalstyle => 'sql_standard', array_nulls => 'off', transform_null_equals => 'on');
my $unset = sql('SELECT literals()');
my $literals = q{SELECT r -> 'l' FROM } . call('SELECT literals() AS l') . ' r';
foreach my $name (sort keys %meanings)
{
	my $set = "SET $name = $meanings{$name}";
	my $local = "SET LOCAL $name = $meanings{$name}";
	my $own = sql("$set; SELECT literals()");

	isnt($own, $unset, "$name makes a difference");
	is(sql("$set; $literals"), $name =~ /style|zone/ ? $own : $unset, "... to callers of some settings");
	is(sql($literals), $unset, '... and to no others');
	is(sql(q{SELECT r -> 'l' FROM } . call("$set; SELECT literals() AS l") . ' r'), $own, '... where the statement sets it');
	is(sql($literals), $unset, '... and not for the next caller');
	is(sql("SELECT r -> 'l' FROM dbopt_with_transaction(ARRAY[\$\$$local\$\$, 'SELECT literals() AS l']) r"), $own, '... for a transaction');
	is(sql($literals), $unset, '... and no longer');
	like(failure('SELECT ' . call("$local; SELECT literals(); SELECT 1/0")), qr/ERROR:  22012/, '... which fails');
	is(sql($literals), $unset, '... and leaves nothing, either');
	sql("CREATE FUNCTION within_$name() RETURNS jsonb LANGUAGE sql $set AS 'SELECT literals()'");
	sql('SELECT ' . call("$set; SELECT literals()"));
	is(sql(q{SELECT r -> 'l' FROM } . call("SELECT within_$name() AS l") . ' r'), $own, '... for a function');
	is(sql($literals), $unset, '... and for no other');
}

# Slots for replication, and backups.
sql(q{SELECT pg_create_logical_replication_slot('own', 'pgoutput')});
like(failure('SELECT ' . call(q{SELECT pg_logical_slot_get_binary_changes('own', NULL, NULL, 'proto_version', '0')})),
	qr/ERROR: .*slot "own"/s, 'a replication slot is read, which fails');
is(sql('SELECT active FROM pg_replication_slots'), 'f', '... and is free for others');
sql(q{SELECT pg_drop_replication_slot('own')});
sql('SELECT ' . call(q{SELECT pg_create_physical_replication_slot('brief', true, true)}));
is(sql('SELECT count(*) FROM pg_replication_slots'), 0, 'a temporary one lasts no longer than the call');
sql('SELECT ' . call(q{SELECT pg_backup_start('own', true)}));
like(failure('SELECT ' . call('SELECT pg_backup_stop(false)')), qr/ERROR:  55000/, 'a backup is not there for the next caller to end');

# Where its temporary files are.
sql($_) foreach (q{SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''},
	'ALTER SYSTEM SET temp_tablespaces = elsewhere', 'SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', 'SELECT ' . call('SHOW temp_tablespaces'), '{"temp_tablespaces": "elsewhere"}'), 'a tablespace for temporary files');
sql(q{
	CREATE FUNCTION spill() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		sorted CURSOR FOR SELECT repeat(i::text, 100) AS t FROM generate_series(1, 30000) i ORDER BY t DESC;
	BEGIN
		OPEN sorted;
		MOVE sorted;
		RETURN (SELECT count(*) > 0 FROM pg_ls_tmpdir((SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere')));
	END $$});
my $spill = 'SELECT r FROM ' . call('SELECT spill() AS there') . ' r';
is(sql($spill), '{"there": true}', 'it is used');
sql('SELECT ' . call(q{SET temp_tablespaces = ''}));
is(sql($spill), '{"there": true}', 'also after a caller who wanted none');
sql($_) foreach ('ALTER SYSTEM RESET temp_tablespaces', 'SELECT pg_reload_conf()');

# ---- the death of a caller -----------------------------------------------

my $at_work = q{FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'dbopt session'};
my $victim = start_psql('SELECT ' . call(q{INSERT INTO note VALUES ('never'); SELECT pg_sleep(600) -- work}));
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $at_work"), 'a caller waits for its statement');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query ~ 'never' AND pid <> pg_backend_pid()});
$victim->finish;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $at_work"), 'which ends with it');
ok($node->poll_query_until('postgres', 'SELECT used = 0 FROM dbopt_pool_stats()'), 'and its session is free');
is(sql(q{SELECT count(*) FROM note WHERE t = 'never'}), 0, 'with nothing done');

# ---- a deadlock by way of others -----------------------------------------

# The caller has locked one table; a third session waits for it with the lock
# that the caller's pool session waits for.
sql('CREATE TABLE a (i int); CREATE TABLE b (i int)');
my $caller_psql = $node->background_psql('postgres', on_error_stop => 0);
$caller_psql->query('BEGIN; LOCK TABLE a');
my $third = start_psql('BEGIN; LOCK TABLE b; LOCK TABLE a; COMMIT');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass}), 'a third session waits for the caller');
$caller_psql->query('SELECT ' . call('LOCK TABLE b; SELECT 1'));
is($caller_psql->query('\echo :LAST_ERROR_SQLSTATE'), '40P01', 'its pool session waits for that one: a deadlock');
$caller_psql->query('ROLLBACK');
ok($third->finish, 'and the third can go on');
$caller_psql->quit;
like(failure('SELECT ' . call('CREATE INDEX CONCURRENTLY a_i ON a (i)')), qr/ERROR:  40P01/,
	'what waits for all older transactions waits for its caller, too');

# ---- adaptive delays -----------------------------------------------------

# Each event fails or not, as it says; the delay grows with the share that does,
# and falls when they succeed again.
sql(q{
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, multiplier, jitter, adaptive, retry_unknown, failure_threshold)
	VALUES ('adaptive', 9, '1000 s', '6000 s', 1, 'none', true, true, 1000000), ('plain', 9, '1000 s', '6000 s', 1, 'none', false, true, 1000000);
	CREATE FUNCTION fail(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.data ->> 'fails' = 'yes' THEN
			RAISE EXCEPTION 'no';
		END IF;
	END $$;
	SELECT dbopt_register_handler(name, '*', 'fail(events)', policy => name, chunk_size => 1) FROM unnest('{adaptive,plain}'::text[]) name;
});

sub add_events
{
	my ($count, $fails) = @_;

	sql(qq{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT 'A', 'a', dbopt_uuid_v7(), '{"fails": "$fails"}' FROM generate_series(1, $count); SELECT dbopt_drain()});
	return;
}

# Of the failure that is the latest, in seconds.
sub latest_delay
{
	my ($handler) = @_;

	return sql(qq{SELECT round(extract(epoch FROM q.next_retry_at - q.failed_at)) FROM dbopt_retry_queue q
		JOIN dbopt_handler h USING (handler_id) WHERE h.name = '$handler' ORDER BY q.failed_at DESC LIMIT 1});
}

add_events(100, 'no');
add_events(1, 'yes');
my $first = latest_delay('adaptive');
cmp_ok($first, '>=', 1000, 'the first failure has at least the base delay');
cmp_ok($first, '<', 2000, '... and little more');
add_events(200, 'yes');
is(latest_delay('adaptive'), 6000, 'where all fail, it is the longest');
add_events(1000, 'no');
add_events(1, 'yes');
cmp_ok(latest_delay('adaptive'), '<', 2000, 'and when they succeed again, about the first');
is(sql(q{SELECT max(round(extract(epoch FROM q.next_retry_at - q.failed_at))) FROM dbopt_retry_queue q
	JOIN dbopt_handler h USING (handler_id) WHERE h.name = 'plain'}), 1000, 'another policy knows nothing of it');

$node->stop;
done_testing();
