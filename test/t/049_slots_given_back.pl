# Slots in shared memory, of handlers and of sessions: a handler that is removed
# while a session is at work for it leaves its slot when that is done, and a
# session that ends leaves its own whatever fails at that.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;

my $dir = build_module();
my $node = PostgreSQL::Test::Cluster->new('slots');
$node->init;

# There is room for the circuit breaker "database" and one handler.
$node->append_conf('postgresql.conf', qq{
	shared_preload_libraries = 'dbopt, $dir/dbopt_test.so'
	dbopt.max_handlers = 2
	dbopt.pool_max = 2
	fsync = off
});
$node->start;
asking($node);

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, act text NOT NULL, arg text NOT NULL DEFAULT '');
	SELECT dbopt_attach_events('events');
	CREATE TABLE done (id int);
	CREATE FUNCTION handle(events) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_row';
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold, reset_timeout)
	VALUES ('once', 1, '10 ms', '10 ms', 'none', true, 1, '10 ms');
	SELECT dbopt_register_handler('first', 'FIRST', 'handle(events)', policy => 'once');
});

# ---- of a handler --------------------------------------------------------------

my $file = PostgreSQL::Test::Utils::tempdir . '/go';
my $has_slot = q{SELECT stats_since IS NOT NULL FROM dbopt_retry_stats() WHERE handler = 'second'};

sql("INSERT INTO events VALUES (1, 'FIRST', 'commit_until', '$file')");
becomes('SELECT count(*) FROM done', '1', 'an event is delivered');
becomes("SELECT count(size) FROM pg_stat_file('$file.begun', true)", '1', 'its session has not counted that yet');
sql(q{SELECT dbopt_unregister_handler('first');
	SELECT dbopt_register_handler('second', 'SECOND', 'handle(events)', policy => 'once')});
$node->wait_for_log(qr/handler "second" runs without a circuit breaker and without statistics/);
is(sql($has_slot), 'f', 'the next handler does not get the slot meanwhile');
append_to_file($file, '');
becomes($has_slot, 't', '... but when the session is done');
becomes(q{SELECT count(*) FROM dbopt_pool_sessions() WHERE state = 'busy'}, '0', '... which has nothing more to do');
is(sql('SELECT in_flight, attempts, successes FROM dbopt_retry_stats()'), '0|0|0', '... and counts nothing there');
is(sql(q{SELECT successes FROM dbopt_circuit_breakers() WHERE name = 'second'}), '0', '... nor tells the circuit breaker');

# ---- of a session --------------------------------------------------------------

sql('ALTER DATABASE postgres SET dbopt_test.refuse_last_lines = on');
sql(q{INSERT INTO events VALUES (2, 'SECOND', 'fail', '55P03')});
becomes(q{SELECT state FROM dbopt_circuit_breakers() WHERE name = 'second'}, 'OPEN', 'a circuit breaker is open');
my $offset = -s $node->logfile;
sql(q{INSERT INTO events VALUES (3, 'SECOND', 'leave_fatally', '')});
$node->wait_for_log(qr/no line is written/, $offset);
pass('a session ends with the trial, and cannot log that');
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'its event is given up');
is(sql('SELECT count(*) FROM dbopt_dead_letters'), '2', '... as the one before');
becomes(q{SELECT count(*) FROM dbopt_pool_sessions() s WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = s.pid)},
	'0', '... and its slot is free');
sql(q{INSERT INTO events VALUES (4, 'SECOND', 'succeed')});
becomes(q{SELECT count(*) FROM done WHERE id = 4}, '1', '... so that others go on');

$node->stop;
done_testing();
