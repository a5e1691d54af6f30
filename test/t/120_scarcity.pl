# Too few worker processes, connections, connections of a role, and handler
# slots: what can be delivered is, the log says once what is missing, and the
# rest is delivered when there is enough again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('scarcity');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_logical_replication_workers = 0
max_worker_processes = 3
max_connections = 12
superuser_reserved_connections = 6
dbopt.max_handlers = 4
dbopt.pool_max = 4
dbopt.pool_min = 0
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE other; CREATE ROLE app LOGIN');

foreach my $db (qw(postgres other))
{
	$node->safe_psql($db, q{
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('log', false);
		CREATE TABLE effects (handler text, id uuid);
		GRANT ALL ON log, effects TO app;
		CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.effects VALUES (e.event_type, e.id); END $$;
		SELECT dbopt_register_handler('plain', 'PLAIN', 'handle(log)');
	});
}

sub add_event
{
	my ($type) = @_;

	$node->safe_psql('postgres', "INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('$type', 'a', dbopt_uuid_v7(), '{}')");
	return;
}

sub delivered
{
	my ($type, $count, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT count(*) FROM effects WHERE handler = '$type'", $count), $name)
	  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_pool_sessions(); SELECT * FROM dbopt_pool_events()');
	return;
}

sub times_logged
{
	my ($pattern, $offset) = @_;

	return scalar(() = slurp_file($node->logfile, $offset // 0) =~ /$pattern/g);
}

# ---- worker processes -----------------------------------------------------

# The launcher and two schedulers have all there are.
ok( $node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^dbopt'", '3'),
	'no worker process is left');
my $since = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
add_event('PLAIN');
$node->wait_for_log(qr/could not start a dbopt session: no free slot/);
pass('the log says so');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects"), '0', 'nothing is delivered without one');
is($node->safe_psql('postgres', "SELECT dbopt_drain('100 ms')"), 'f', 'nor forgotten');

# That was the third attempt: a second after the first came the second one, two
# seconds after that the third.  Whatever else takes time only adds to it.
my ($time, $detail) = slurp_file($node->logfile) =~ /^(\S+ \S+ \S+) [^\n]*could not start a dbopt session: no free slot.*?DETAIL:  (\{.*?\})$/ms;
like($detail, qr/"attempt": 3,.*"delay_ms": 4000\.000/, 'attempts to start a session are put off longer and longer');
cmp_ok($node->safe_psql('postgres', "SELECT extract(epoch FROM timestamptz '$time' - '$since')"), '>=', 3, '... and are made no sooner');
ok($node->poll_query_until('postgres', q{SELECT count >= 4 FROM dbopt_pool_events() WHERE event = 'createFail'}), '... but made again');
$node->safe_psql('other', 'DROP EXTENSION dbopt CASCADE');
delivered('PLAIN', 1, 'when one becomes free it is');
is(times_logged(qr/could not start a dbopt session: no free slot/), 1, 'the log has said so once');

# A database that finds none for its scheduler.
$node->safe_psql('postgres', 'DROP EXTENSION dbopt CASCADE; DROP TABLE log, effects CASCADE');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '1');
$node->restart;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE effects (handler text, id uuid);
	GRANT ALL ON log, effects TO app;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.effects VALUES (e.event_type, e.id); END $$;
	SELECT dbopt_register_handler('plain', 'PLAIN', 'handle(log)');
});
$node->wait_for_log(qr/finds no free slot for a background worker/);
add_event('PLAIN');
is($node->safe_psql('postgres', "SELECT count(*) FROM log"), '1', 'events are written without any worker');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '12');
$node->restart;
delivered('PLAIN', 1, 'and delivered when there are some');

# ---- a database that comes when sessions have all of them --------------------

my $sessions = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session'};
$node->adjust_conf('postgresql.conf', 'dbopt.pool_min', '4');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '6');
$node->append_conf('postgresql.conf', 'dbopt.max_workers = 10');
$node->restart;
ok($node->poll_query_until('postgres', $sessions, '4'), 'warm sessions have what is left');
$node->safe_psql('other', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_attach_events('log');
	SELECT dbopt_register_handler('plain', 'PLAIN', 'handle(log)')});
$node->safe_psql('other', "INSERT INTO log (id, event_type, aggregate_type, aggregate_id, data) VALUES (gen_random_uuid(), 'PLAIN', 'a', gen_random_uuid(), '{}')");
ok($node->poll_query_until('other', q{SELECT count(*) FROM effects}, '1'), 'one gives its slot up for the scheduler, one for a session');
$node->safe_psql('other', 'DROP EXTENSION dbopt CASCADE');

# Sessions that have work go on, and the health says what is missing.
my @workers = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 4;
$_->query_until(qr/called/, "\\echo called\nSELECT dbopt_with_connection('SELECT pg_sleep(600) -- work');\n") foreach @workers;
ok($node->poll_query_until('postgres', q{SELECT used = 4 FROM dbopt_pool_stats()}), 'all sessions are at work');
$node->safe_psql('other', 'CREATE EXTENSION dbopt CASCADE');
ok( $node->poll_query_until('other', q{SELECT detail ~ 'no background worker slot is free' FROM dbopt_health() WHERE check_name = 'scheduler'}),
	'health says that the scheduler finds none');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM dbopt_pool_sessions() WHERE state = 'busy'});
ok( $node->poll_query_until('other', q{SELECT status = 'healthy' FROM dbopt_health() WHERE check_name = 'scheduler'}),
	'... until it does');
$_->quit foreach @workers;
$node->safe_psql('other', 'DROP EXTENSION dbopt CASCADE');
$node->adjust_conf('postgresql.conf', 'dbopt.pool_min', '0');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '12');
$node->adjust_conf('postgresql.conf', 'dbopt.max_workers', undef);
$node->restart;

# ---- connections -----------------------------------------------------------

my @clients = map { $node->background_psql('postgres', extra_params => [ '-U', 'app' ]) } 1 .. 6;
my ($status) = $node->psql('postgres', 'SELECT', extra_params => [ '-U', 'app' ]);
isnt($status, 0, 'no connection is left');
add_event('PLAIN');
delivered('PLAIN', 2, 'which is nothing to the workers');

# ---- connections of a role -------------------------------------------------

# Releases of PostgreSQL differ in whether workers are held to this limit.
$node->safe_psql('postgres', q{
	ALTER ROLE app CONNECTION LIMIT 1;
	SELECT dbopt_register_handler('apps', 'APPS', 'handle(log)', run_as => 'app')});
add_event('APPS');
add_event('PLAIN');
delivered('PLAIN', 3, 'a role at its limit holds up no other');
$_->quit foreach @clients;
delivered('APPS', 1, 'and is delivered to when its clients have gone, if not before');

# ---- slots of handlers ------------------------------------------------------

# Each of these fails once.  With those above they are more than four.
my $offset = -s $node->logfile;
$node->safe_psql('postgres', q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
	VALUES ('quick', 2, '10 ms', '10 ms', 'none', true);
	CREATE FUNCTION fail(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT EXISTS (SELECT FROM public.dbopt_pending_retries r WHERE r.event_id = e.id::text) THEN
			RAISE 'not at first';
		END IF;
		INSERT INTO public.effects VALUES (e.event_type, e.id);
	END $$;
	SELECT dbopt_register_handler('h' || n, 'H' || n, 'fail(log)', policy => 'quick') FROM generate_series(1, 6) n;
});
$node->wait_for_log(qr/runs without a circuit breaker and without statistics/, $offset);
pass('the log says that handlers have no slot');
add_event("H$_") foreach 1 .. 6;
delivered("H$_", 1, "handler h$_ is delivered to, with a retry") foreach 1 .. 6;
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained');
is(times_logged(qr/runs without a circuit breaker and without statistics/, $offset), 1, '... and the log has said so once');
is($node->safe_psql('postgres', "SELECT status, detail FROM dbopt_health() WHERE check_name = 'handlers'"),
	'degraded|without a circuit breaker and statistics, since all 4 slots are in use: "h2", "h3", "h4", "h5", "h6"; consider increasing dbopt.max_handlers',
	'... and health names them');
my ($code, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT dbopt_trip_circuit_breaker('h6')");
like($error, qr/ERROR:  53400: could not find room for circuit breaker "h6"\nHINT:  Increase the configuration parameter "dbopt.max_handlers"/,
	'a breaker that there is no room for cannot be tripped');

# What fails in great numbers has as few lines as with a slot.
$offset = -s $node->logfile;
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse(log) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
	SELECT dbopt_register_handler('h6', 'H6', 'refuse(log)', policy => 'quick', replace => true);
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT 'H6', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 300)});
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', '300 events fail twice');
foreach my $operation (qw(event.retry event.give_up))
{
	my $left_out = qr/dbopt: (\d+) log lines "$operation" of handlers without a slot were left out/;

	$node->wait_for_log($left_out, $offset);
	my $sum = 0;
	$sum += $_ foreach slurp_file($node->logfile, $offset) =~ /$left_out/g;
	my $lines = times_logged(qr/"operation": "$operation", "handler": "h6"/, $offset);
	cmp_ok($lines, '<=', 50, "$operation: some lines");
	is($lines + $sum, 300, '... and the number of the others');
}

# A handler gets the slot of one that is removed, and health says so.
is($node->safe_psql('postgres', q{SELECT count(*) FROM dbopt_retry_stats() WHERE handler = 'h6' AND stats_since IS NULL}), '1', 'a handler has no slot');
$node->safe_psql('postgres', q{SELECT dbopt_unregister_handler('h' || n, discard => true) FROM generate_series(1, 5) n});
ok($node->poll_query_until('postgres', q{SELECT stats_since IS NOT NULL FROM dbopt_retry_stats() WHERE handler = 'h6'}), '... until others are removed');
is($node->safe_psql('postgres', q{SELECT status, detail FROM dbopt_health() WHERE check_name = 'handlers'}), 'healthy|all are ready', '... which health says');
$node->safe_psql('postgres', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('H6', 'a', dbopt_uuid_v7(), '{}')});
ok($node->poll_query_until('postgres', q{SELECT failures = 2 FROM dbopt_retry_stats() WHERE handler = 'h6'}), '... and its attempts are counted');

# So does one in another database, and the circuit breaker for callers there.
$node->safe_psql('postgres', 'DROP EXTENSION dbopt CASCADE');
$node->safe_psql('other', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_attach_events('log');
	SELECT dbopt_register_handler('o' || n, 'O' || n, 'handle(log)') FROM generate_series(1, 3) n});
ok($node->poll_query_until('other', q{SELECT count(stats_since) = 3 FROM dbopt_retry_stats()}), 'a database has all slots');
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_attach_events('log');
	SELECT dbopt_register_handler('plain', 'PLAIN', 'handle(log)')});
ok( $node->poll_query_until('postgres', q{SELECT detail ~ 'in use: "plain", "database"; ' FROM dbopt_health() WHERE check_name = 'handlers'}),
	'another one has none');
$node->safe_psql('other', q{SELECT dbopt_unregister_handler('o' || n) FROM generate_series(1, 2) n});
ok($node->poll_query_until('postgres', q{SELECT stats_since IS NOT NULL FROM dbopt_retry_stats()}), '... until its handler gets one that becomes free');
is($node->safe_psql('postgres', q{SELECT status, detail FROM dbopt_health() WHERE check_name = 'handlers'}), 'healthy|all are ready', '... which health says');
$node->safe_psql('postgres', q{SELECT dbopt_trip_circuit_breaker('database')});
(undef, undef, $error) = $node->psql('postgres', q{SELECT dbopt_with_connection('SELECT 1')});
like($error, qr/circuit breaker "database" is open/, '... and callers their circuit breaker');

$node->stop('fast');
done_testing();
