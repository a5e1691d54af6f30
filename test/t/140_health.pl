# Each check of dbopt_health() gets worse when it should, and better again; the
# last row is the worst of all.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('health');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
max_prepared_transactions = 5
restart_after_crash = on
dbopt.pool_max = 4
});
$node->start;

sub sql
{
	my ($statement, $db) = @_;

	return $node->safe_psql($db // 'postgres', $statement);
}

sub status_query
{
	my ($check) = @_;

	return "SELECT status FROM dbopt_health() WHERE check_name = '$check'";
}

sub detail
{
	my ($check) = @_;

	return sql("SELECT detail FROM dbopt_health() WHERE check_name = '$check'");
}

# The check has this status now; or does so soon, which a worker sees to.
sub is_status
{
	my ($check, $status, $name) = @_;

	is(sql(status_query($check)), $status, "$check is $status: $name");
	return;
}

sub becomes
{
	my ($check, $status, $name, $db) = @_;

	ok($node->poll_query_until($db // 'postgres', status_query($check), $status), "$check becomes $status: $name")
	  or diag sql('SELECT * FROM dbopt_health()', $db);
	return;
}

# The pool has so many sessions at work, and this status, at one time.
sub pool_becomes
{
	my ($used, $status, $name) = @_;

	ok( $node->poll_query_until('postgres',
			'SELECT used, (' . status_query('pool') . ') FROM dbopt_pool_stats()', "$used|$status"),
		"$used sessions are at work, and pool is $status: $name")
	  or diag sql('SELECT * FROM dbopt_pool_stats(); SELECT * FROM dbopt_pool_sessions(); SELECT * FROM dbopt_health()');
	return;
}

# Ends a worker until somebody has looked before it was started again, which is
# after a second or more; returns what was seen then.
sub ended
{
	my ($worker) = @_;
	my $seen;

	foreach (1 .. 20)
	{
		$seen = sql(qq{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
				WHERE backend_type = 'dbopt $worker' AND (datname IS NULL OR datname = 'postgres');
			SELECT status, detail FROM dbopt_health() WHERE check_name = 'scheduler'});
		last if $seen !~ /\|running for/;
		becomes('scheduler', 'healthy', 'it was there again before anybody looked');
	}
	return $seen;
}

sub set
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET $name = '$value'");
	sql('SELECT pg_reload_conf()');
	return;
}

sub insert
{
	my ($type, $count, $created_at) = @_;

	$count //= 1;
	$created_at //= 'now()';
	sql("INSERT INTO events (event_type, aggregate_type, aggregate_id, data, created_at)
		SELECT '$type', 'a', gen_random_uuid(), '{}', $created_at FROM generate_series(1, $count)");
	return;
}

my $schema = q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE gate (is_open boolean, fails boolean);
	INSERT INTO gate VALUES (true, true);
	CREATE FUNCTION pass(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT (SELECT is_open FROM gate) LOOP
			PERFORM pg_sleep(0.02); /* handler */
		END LOOP;
		IF $1.event_type = 'TWO.FAIL' AND (SELECT fails FROM gate) THEN
			RAISE EXCEPTION 'no luck with %', $1.id USING ERRCODE = 'connection_failure';
		ELSIF $1.event_type = 'TWO.BAD' THEN
			RAISE EXCEPTION 'bad event' USING ERRCODE = 'data_exception';
		END IF;
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
		VALUES ('stubborn', 1000, '1 h', '1 h', 'none', 1000000);
};
sql($schema . q{
	CREATE ROLE app LOGIN;
	GRANT SELECT ON events, gate TO app;
	SELECT dbopt_register_handler('one', 'ONE', 'pass(events)', chunk_size => 1, run_as => 'app');
	SELECT dbopt_register_handler('two', 'TWO.*', 'pass(events)', policy => 'stubborn', run_as => 'app');
});
insert('ONE');
is(sql('SELECT dbopt_drain()'), 't', 'delivered');

# ---- everything is well --------------------------------------------------

becomes('overall', 'healthy', 'delivery works');
is( sql('SELECT check_name FROM dbopt_health()'), join("\n", qw(scheduler probation pool worker_slots paused breakers
		  retry_storm handlers backlog positions dead_letters indexes long_transactions clock overall)),
	'the checks, the worst of them last');
is( sql("SELECT count(*) FROM dbopt_health() WHERE status <> 'healthy' OR detail IS NULL"), '0', 'all is well, and told how');

# ---- paused --------------------------------------------------------------

sql('SELECT dbopt_pause()');
is_status('paused', 'degraded', 'the database');
is_status('overall', 'degraded', 'as the check is');
like(detail('overall'), qr/not healthy: "paused"/, 'the last row names it');
sql('SELECT dbopt_resume()');
is_status('paused', 'healthy', 'resumed');
sql(q{SELECT dbopt_pause_handler('one')});
is_status('paused', 'degraded', 'a handler');
like(detail('paused'), qr/"one"/, '... which is named');
insert('ONE', 1, "now() - interval '1 day'");
sql(q{SELECT dbopt_drain()});
is_status('backlog', 'healthy', 'what a paused handler does not get is no backlog');
sql(q{SELECT dbopt_resume_handler('one')});
is_status('paused', 'healthy', 'the handler is resumed');
sql(q{SELECT dbopt_drain()});

# ---- breakers, backlog ---------------------------------------------------

sql(q{SELECT dbopt_trip_circuit_breaker('one')});
is_status('breakers', 'degraded', 'one of them is open');
set('dbopt.health_backlog_age', '1 h');
ok($node->poll_query_until('postgres', 'SHOW dbopt.health_backlog_age', '1h'), 'the setting counts');
insert('ONE', 1, "now() - interval '55 min'");
is_status('backlog', 'healthy', 'an event waits for less than the setting');
insert('ONE', 1, "now() - interval '10 years'");
is_status('backlog', 'healthy', 'the one in front counts');
like(detail('backlog'), qr/for 5\d min, for handler "one"/, '... which is told');
set('dbopt.health_backlog_age', '1 min');
becomes('backlog', 'critical', 'the setting is what counts');
sql(q{SELECT dbopt_reset_circuit_breaker(), dbopt_drain()});
is_status('breakers', 'healthy', 'closed again');
is_status('backlog', 'healthy', 'delivered');

sql(q{SELECT dbopt_trip_circuit_breaker('one')});
insert('ONE', 1, "now() - interval '61 s'");
is_status('backlog', 'degraded', 'for a minute');
like(detail('backlog'), qr/for (?:6[1-9]|[7-9]\d|1[01]\d) s, for handler "one"|for \d min, for handler "one"/, '... which is told');

# A table that is locked is left out, and not waited for.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE events');
is(sql(q{SELECT status, detail FROM dbopt_health() WHERE check_name = 'backlog'}),
	'healthy|no event waits; locked, and not looked at: "events"', 'nobody waits for a locked table');
$holder->quit;

# Each table is looked at, and the others if one of them has a locked partition.
sql(q{
	CREATE TABLE parted (id bigint, day int, event_type text NOT NULL, created_at timestamptz, PRIMARY KEY (id, day))
		PARTITION BY LIST (day);
	CREATE TABLE monday PARTITION OF parted FOR VALUES IN (1);
	CREATE TABLE tuesday PARTITION OF parted FOR VALUES IN (2);
	SELECT dbopt_attach_events('parted', 'id');
	CREATE FUNCTION ignore(parted) RETURNS void LANGUAGE sql AS '';
	SELECT dbopt_register_handler('three', 'DAY.*', 'ignore(parted)', events => 'parted');
	INSERT INTO parted VALUES (1, 1, 'DAY.ONE', now()), (2, 2, 'DAY.TWO', now());
	SELECT dbopt_drain(), dbopt_trip_circuit_breaker('three');
	INSERT INTO parted VALUES (3, 1, 'DAY.ONE', now()), (4, 2, 'DAY.TWO', now() - interval '200 s')});
like(detail('backlog'), qr/^the oldest event waits for \d+ min, for handler "three"$/, 'the oldest of all tables');
$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE tuesday');
like(sql(q{SET lock_timeout = '10 s'; SELECT detail FROM dbopt_health() WHERE check_name = 'backlog'}),
	qr/^the oldest event waits for \d+ (?:s|min), for handler "one"; locked, and not looked at: "parted"$/, 'nor for a locked partition');
is( sql(q{SET lock_timeout = '10 s'; SELECT count(*), count(waiting) FROM dbopt_backlog() WHERE handler = 'three'}),
	'2|0', 'nor does dbopt_backlog(), which says what it does not know');
$holder->quit;
sql(q{SELECT dbopt_unregister_handler('three'), dbopt_detach_events('parted')});

# A retry waits from the time on for which it was planned.
sql(q{SELECT dbopt_reset_circuit_breaker(), dbopt_drain()});
sql(q{UPDATE dbopt_retry_policy SET base_delay = '1 s' WHERE name = 'stubborn'});
set('dbopt.health_backlog_age', '1 s');
insert('TWO.FAIL');
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM dbopt_pending_retries', '1'), 'a retry is planned');
$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE events');
# It is critical ten seconds later.
ok( $node->poll_query_until('postgres', q{SELECT status <> 'healthy' FROM dbopt_health() WHERE check_name = 'backlog'}),
	'backlog is healthy no longer: a retry cannot be run')
  or diag sql('SELECT * FROM dbopt_health()');
like(detail('backlog'), qr/^the oldest event waits for \d+ (?:s|min), for handler "two"; locked, and not looked at: "events"$/, '... which is told');
$holder->quit;
sql('UPDATE gate SET fails = false');
is(sql(q{SELECT dbopt_drain()}), 't', 'it is run');
is_status('backlog', 'healthy', 'and nothing waits');
sql(q{UPDATE gate SET fails = true; UPDATE dbopt_retry_policy SET base_delay = '1 h' WHERE name = 'stubborn'});
set('dbopt.health_backlog_age', '1 min');

sql(q{SELECT dbopt_trip_circuit_breaker('one')});
insert('ONE', 1, "now() - interval '601 s'");
is_status('backlog', 'critical', 'for ten minutes');
sql(q{SELECT dbopt_trip_circuit_breaker('two')});
is_status('breakers', 'critical', 'all handlers have an open one');
sql(q{SELECT dbopt_reset_circuit_breaker(), dbopt_drain(), dbopt_trip_circuit_breaker('database')});
is_status('backlog', 'healthy', 'delivered');
is_status('breakers', 'critical', 'that of the callers is open');
sql(q{SELECT dbopt_reset_circuit_breaker('database')});
is_status('breakers', 'healthy', 'closed again');

# ---- the pool ------------------------------------------------------------

# One that finds no more to do may be at work beside them for a moment.
sql('UPDATE gate SET is_open = false');
insert('ONE', 2);
pool_becomes(2, 'healthy', 'half of it is in use');
insert('ONE', 1);
pool_becomes(3, 'degraded', 'three quarters are');
insert('ONE', 1);
ok($node->poll_query_until('postgres', q{SELECT count(*) FROM dbopt_chunk}, '4'), 'four events are being handled');
pool_becomes(4, 'critical', 'all of it is');
like(detail('pool'), qr/4 of 4 sessions are in use/, '... which is told');
is_status('worker_slots', 'healthy', 'there are more slots than the pool may take');

# A crash: what was running is run alone.
kill 'KILL', sql("SELECT min(pid) FROM dbopt_pool_sessions() WHERE state = 'busy'");
$node->poll_query_until('postgres', 'SELECT true');
becomes('probation', 'degraded', 'after a crash');
sql('UPDATE gate SET is_open = true');
becomes('probation', 'healthy', 'what is suspected has run');
is(sql('SELECT dbopt_drain()'), 't', 'delivered');
becomes('pool', 'healthy', 'nobody is at work');

# ---- failures ------------------------------------------------------------

# All have failed when nothing is left but retries, which are planned for later.
insert('TWO.FAIL', 20);
is(sql('SELECT dbopt_drain()'), 'f', 'retries are left');
is_status('retry_storm', 'degraded', 'most attempts fail');
like(detail('retry_storm'), qr/6\d% of the recent attempts fail: "two"/, '... which is told');
insert('TWO.FAIL', 40);
becomes('retry_storm', 'critical', 'nearly all do');
insert('TWO.OTHER', 60);
becomes('retry_storm', 'healthy', 'most succeed again');
sql(q{UPDATE gate SET fails = false; UPDATE dbopt_retry_queue SET next_retry_at = now();
	SELECT dbopt_pause_handler('two'), dbopt_resume_handler('two')});
is(sql('SELECT dbopt_drain()'), 't', 'retried');

is_status('dead_letters', 'healthy', 'there are none');
insert('TWO.BAD');
becomes('dead_letters', 'degraded', 'there is one');
sql(q{INSERT INTO dbopt_dead_letter SELECT handler_id, log_position + n, event_key, event_type, 1, '22000', 'bad', now(), now()
	FROM dbopt_dead_letter, generate_series(1, 98) n});
is_status('dead_letters', 'degraded', 'there are 99');
set('dbopt.health_dead_letters', '100');
becomes('dead_letters', 'healthy', 'the setting allows 99');
set('dbopt.health_dead_letters', '1');
becomes('dead_letters', 'degraded', 'the setting allows none');
insert('TWO.BAD');
becomes('dead_letters', 'critical', 'there are 100');
set('dbopt.health_dead_letters', '0');
becomes('dead_letters', 'healthy', 'the setting allows any number');
set('dbopt.health_dead_letters', '1');
sql('SELECT dbopt_discard_dead_letters()');
is_status('dead_letters', 'healthy', 'discarded');

# ---- what is not ready ---------------------------------------------------

sql('REVOKE SELECT ON events FROM app');
insert('ONE');
insert('TWO.OTHER');
becomes('handlers', 'critical', 'all handlers are broken');
like(detail('handlers'), qr/handlers "one", "two"; tables none/, '... and named');
sql(q{GRANT SELECT ON events TO app; SELECT dbopt_resume_handler('two')});
becomes('handlers', 'degraded', 'one of them still is');
sql(q{SELECT dbopt_resume_handler('one')});
becomes('handlers', 'healthy', 'both are ready');
is(sql('SELECT dbopt_drain()'), 't', 'delivered');

sql('ALTER TABLE events RENAME COLUMN event_type TO kind');
becomes('handlers', 'critical', 'the table is not fit');
like(detail('handlers'), qr/tables "events"/, '... and named');
sql('ALTER TABLE events RENAME COLUMN kind TO event_type');
becomes('handlers', 'healthy', 'the table is as it was');

sql(q{
	CREATE TABLE gone (id int PRIMARY KEY, event_type text);
	SELECT dbopt_attach_events('gone');
	CREATE FUNCTION handle_gone(jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT dbopt_register_handler('gone', '*', 'handle_gone(jsonb)', events => 'gone');
	DROP TABLE gone});
becomes('handlers', 'degraded', 'a table was dropped');
like(detail('handlers'), qr/tables "gone"/, '... which is named');
sql(q{SELECT dbopt_unregister_handler('gone'); DROP FUNCTION handle_gone});
becomes('handlers', 'healthy', 'and forgotten');

# Of events without a time nobody knows how long they have waited.
sql(q{
	CREATE TABLE undated (id int PRIMARY KEY, event_type text);
	SELECT dbopt_attach_events('undated');
	CREATE FUNCTION handle_undated(jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); /* handler */ END';
	SELECT dbopt_register_handler('undated', '*', 'handle_undated(jsonb)', events => 'undated');
	INSERT INTO undated VALUES (1, 'A'), (2, 'B')});
is_status('backlog', 'healthy', 'what waits does not tell since when');
like(detail('backlog'), qr/^no event of known age waits; waiting without created_at or event_timestamp, for handlers "undated"$/,
	'... which is told, once for a handler');
sql(q{
	SELECT pg_terminate_backend(pid) FROM dbopt_pool_sessions() WHERE handler = 'undated';
	DELETE FROM undated});
ok($node->poll_query_until('postgres', q{SELECT detail = 'no event waits' FROM dbopt_health() WHERE check_name = 'backlog'}),
	'until they are gone');
sql(q{
	SELECT pg_terminate_backend(pid) FROM dbopt_pool_sessions() WHERE handler = 'undated';
	SELECT dbopt_unregister_handler('undated', true), dbopt_detach_events('undated')});

sql(q{
	CREATE TABLE doubles (x int);
	INSERT INTO doubles VALUES (1), (1);
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('doubles_x', 'doubles', '(x)');
});
$node->psql('postgres', 'CREATE UNIQUE INDEX CONCURRENTLY doubles_x ON doubles (x)');
is_status('indexes', 'degraded', 'a declared one is invalid');
like(detail('indexes'), qr/"doubles_x"/, '... which is named');
sql('DROP INDEX doubles_x');
is_status('indexes', 'healthy', 'one that is missing is not');
sql(q{INSERT INTO dbopt_index_state (name) VALUES ('doubles_x'); UPDATE dbopt_index_state SET state = 'failed'});
is_status('indexes', 'degraded', 'building one was given up');
sql(q{DELETE FROM dbopt_index WHERE name = 'doubles_x'});
is_status('indexes', 'healthy', 'it is not wanted any longer');

# ---- transactions --------------------------------------------------------

sql(q{BEGIN; INSERT INTO doubles VALUES (2); PREPARE TRANSACTION 'it''s long'});
is_status('long_transactions', 'healthy', 'it is young');
set('dbopt.health_transaction_age', '1 ms');
becomes('long_transactions', 'critical', 'ten times the age');
like(detail('long_transactions'), qr/prepared transaction 'it''s long' is open for \d+ s, and what it has written/, '... and told');
set('dbopt.health_transaction_age', '1 h');
becomes('long_transactions', 'healthy', 'the setting allows it');
sql(q{ROLLBACK PREPARED 'it''s long'});

$holder = $node->background_psql('postgres');
my $pid = $holder->query_safe('SELECT pg_backend_pid()');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM gate');
# Others that write, the scheduler's alerts for one, are not open for so long.
set('dbopt.health_transaction_age', '200 ms');
becomes('long_transactions', 'degraded', 'one that only reads');
ok( $node->poll_query_until('postgres', "SELECT clock_timestamp() - xact_start > '3 s' FROM pg_stat_activity WHERE pid = $pid"),
	'ten times the age, and more');
is_status('long_transactions', 'degraded', '... is no worse');
like(detail('long_transactions'), qr/process $pid is open for \d+ s, and keeps dead rows/, '... and told');
$holder->quit;
set('dbopt.health_transaction_age', '1 h');
becomes('long_transactions', 'healthy', 'it has ended');

# ---- positions, clock ----------------------------------------------------

sql('UPDATE dbopt_cursor_version SET last_position = last_position + 1000000000');
is_status('positions', 'critical', 'cursors are ahead of the next event');
sql('UPDATE dbopt_cursor_version SET last_position = last_position - 1000000000');
is_status('positions', 'healthy', 'cursors are where they were');
sql('UPDATE dbopt_database SET system_identifier = system_identifier + 1');
is_status('positions', 'critical', 'a database that was restored');
like(detail('positions'), qr/waits for dbopt_resume\(\)/, '... and how to go on');
is(detail('handlers'), 'not looked at before dbopt_resume()', '... whose tables and roles are not known yet');
is_status('paused', 'degraded', '... is paused');
like(detail('paused'), qr/restored or copied, and is paused until dbopt_resume\(\)/, '... although nobody has paused it');
sql('UPDATE dbopt_database SET system_identifier = system_identifier - 1');
is_status('positions', 'healthy', 'it is this one');
is_status('paused', 'healthy', '... and is not paused');

sql(q{UPDATE dbopt_handler SET registered_at = now() + interval '30 min'});
is_status('clock', 'degraded', 'it has gone back by half an hour');
sql(q{UPDATE dbopt_handler SET registered_at = now() + interval '2 h'});
is_status('clock', 'critical', 'by two hours');
like(detail('clock'), qr/by 1\d\d min|by 2 h/, '... which is told');
sql(q{UPDATE dbopt_handler SET registered_at = now()});
is_status('clock', 'healthy', 'all times have passed');

# ---- the scheduler -------------------------------------------------------

# However long it has been there before, it is not missing for long.
ok( $node->poll_query_until('postgres',
		q{SELECT detail ~ '^running for ([6-9]\d|\d{3}|\d+ (min|h))' FROM dbopt_health() WHERE check_name = 'scheduler'}),
	'it has been running for a minute');
like(ended('scheduler'), qr/^t\ndegraded\|it (?:has ended|is starting)/, 'scheduler is degraded: it was terminated');
becomes('scheduler', 'healthy', 'it is back');
is(ended('launcher'), "t\ndegraded|the launcher is not running", '... degraded: the launcher was terminated');
becomes('scheduler', 'healthy', 'it is back, too');

# ---- no slots ------------------------------------------------------------

set('dbopt.max_workers', '1');
$node->restart;
becomes('overall', 'healthy', 'after a restart');
sql('UPDATE gate SET is_open = false');
insert('ONE', 2);
becomes('worker_slots', 'degraded', 'a second session finds none');
like(detail('worker_slots'), qr/1 of dbopt's 1 are taken/, '... which is told');
sql('CREATE DATABASE second');
sql($schema . q{
	SELECT dbopt_register_handler('one', 'ONE', 'pass(events)', chunk_size => 1);
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('ONE', 'a', gen_random_uuid(), '{}');
}, 'second');
becomes('worker_slots', 'critical', 'there is no session at all', 'second');
sql('UPDATE gate SET is_open = true');
becomes('worker_slots', 'healthy', 'all has been delivered');
becomes('worker_slots', 'healthy', 'there, too', 'second');

# ---- other objects -------------------------------------------------------

sql('CREATE DATABASE other');
is( sql(q{
	CREATE SCHEMA a;
	CREATE EXTENSION dbopt SCHEMA a CASCADE;
	SELECT count(*) FROM a.dbopt_health();
	ALTER SCHEMA a RENAME TO b;
	SELECT count(*) FROM b.dbopt_health();
	DROP EXTENSION dbopt;
	CREATE EXTENSION dbopt SCHEMA b;
	SELECT count(*) FROM b.dbopt_health()}, 'other'), "15\n15\n15", 'one session, and objects that change');

# ---- who may ask ---------------------------------------------------------

is($node->psql('postgres', 'SET ROLE app; SELECT count(*) FROM dbopt_health()'), 3, 'not everybody may ask');
is(sql('GRANT pg_monitor TO app; SET ROLE app; SELECT count(*) FROM dbopt_health()'), '15', 'pg_monitor may');

$node->stop;
done_testing();
