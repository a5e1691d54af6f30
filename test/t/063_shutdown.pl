# Shutdown with many sessions in handlers that rest, compute, wait for
# locks and catch what cancels them: all are gone within
# dbopt.shutdown_timeout, and nothing of what they did is left.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $timeout = 10;
my $each = 4;
my @kinds = qw(rest compute lock advisory swallow);
my $sessions = $each * @kinds;

my $node = PostgreSQL::Test::Cluster->new('shutdown');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
max_worker_processes = @{[ $sessions + 10 ]}
dbopt.pool_min = 0
dbopt.pool_max = $sessions
dbopt.shutdown_timeout = '${timeout}s'
));
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE locked ();
	CREATE TABLE effects (kind text);
	CREATE FUNCTION handle_rest(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('rest');
		PERFORM pg_sleep(3600); -- work
	END $$;
	CREATE FUNCTION handle_compute(events) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE n bigint := 0;
	BEGIN
		INSERT INTO effects VALUES ('compute');
		LOOP
			n := n + 1;
		END LOOP;
	END $$;
	CREATE FUNCTION handle_lock(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('lock');
		LOCK TABLE locked;
	END $$;
	CREATE FUNCTION handle_advisory(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('advisory');
		PERFORM pg_advisory_lock(1);
	END $$;
	CREATE FUNCTION handle_swallow(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('swallow');
		LOOP
			BEGIN
				PERFORM pg_sleep(3600); -- work
			EXCEPTION WHEN query_canceled OR OTHERS THEN
				PERFORM 1;
			END;
		END LOOP;
	END $$;
});
foreach my $kind (@kinds)
{
	$node->safe_psql('postgres',
		"SELECT dbopt_register_handler('$kind', '$kind', 'handle_$kind(events)', chunk_size => 1)"
	);
}

my $blocker = $node->background_psql('postgres');
$blocker->query_safe(
	'BEGIN; LOCK TABLE locked; SELECT pg_advisory_lock(1);');
foreach my $kind (@kinds)
{
	$node->safe_psql('postgres',
		"INSERT INTO events (event_type, aggregate_type, aggregate_id, data)"
		  . " SELECT '$kind', 'a', gen_random_uuid(), '{}' FROM generate_series(1, $each)"
	);
}

# Sessions in their handlers, seen from outside.
my $at_work = q{
	SELECT count(*) FROM dbopt_pool_sessions() s
	JOIN pg_stat_activity a USING (pid)
	WHERE s.state = 'busy' AND (s.handler = 'compute' OR
		(s.handler, a.wait_event) IN (('rest', 'PgSleep'), ('swallow', 'PgSleep'),
			('lock', 'relation'), ('advisory', 'advisory')))};
ok($node->poll_query_until('postgres', $at_work, $sessions),
	"$sessions sessions are in their handlers")
  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_pool_sessions()');

# To be cancelled does not end those that catch it.
$node->safe_psql('postgres',
	q{SELECT pg_cancel_backend(pid) FROM dbopt_pool_sessions() WHERE handler = 'swallow'});
ok($node->poll_query_until('postgres', $at_work, $sessions),
	'a cancel is swallowed');

my $begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', $timeout + 1,
	'fast shutdown within dbopt.shutdown_timeout');
eval { $blocker->quit };
unlike(slurp_file($node->logfile),
	qr/PANIC|was terminated by signal|abnormal/, 'an orderly one');

$node->start;
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM effects WHERE kind IN ('rest', 'compute', 'swallow')}
	),
	0,
	'nothing is left of handlers that were cut off');
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) FROM effects}, 2 * $each),
	'those whose lock has gone are finished, once each');
ok( $node->poll_query_until('postgres',
		q{SELECT count(*) >= 1 FROM dbopt_pool_sessions() WHERE state = 'busy'}),
	'their events are taken up again');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_pending_retries'),
	0, 'and no attempt was counted');

# Smart shutdown waits for clients, and until then for nobody's events.
my $client = $node->background_psql('postgres');
$node->command_ok(
	[ 'pg_ctl', '-D', $node->data_dir, '-m', 'smart', '--no-wait', 'stop' ],
	'a smart shutdown');
$client->query_safe(
	q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	VALUES ('lock', 'a', gen_random_uuid(), '{}')});
my $delivered = 0;
for (my $tries = 0; $tries < 10_000 && !$delivered; $tries++)
{
	$delivered = $client->query_safe('SELECT count(*) FROM effects') > 2 * $each;
}
ok($delivered, 'delivery goes on while a client is there');
$client->quit;
$begin = time;
$node->stop('smart', fail_ok => 1);    # it may be gone by now
cmp_ok(time - $begin, '<', $timeout + 1, 'handlers do not keep it waiting');
ok(!-e $node->data_dir . '/postmaster.pid', 'and it has stopped');
$node->start;
ok( $node->poll_query_until('postgres',
		q{SELECT count(*) >= 1 FROM dbopt_pool_sessions() WHERE state = 'busy'}),
	'their events are taken up once more');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM effects}),
	2 * $each + 1,
	'what was cut off has left nothing');

# DROP DATABASE is kept waiting by none of them, nor by any time-out.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$begin = time;
$node->safe_psql('other', 'DROP DATABASE postgres');
cmp_ok(time - $begin, '<', $timeout, 'neither is DROP DATABASE kept');

$node->stop;
done_testing();
