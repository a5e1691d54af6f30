# A handler that fails opens its circuit breaker, which lets nothing through,
# then a trial, and closes when that succeeds; others are not held up.
# Statistics of handlers survive a clean restart.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('circuit');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 16");
$node->start;

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE weather (bad boolean);
	INSERT INTO weather VALUES (true);
	CREATE TABLE calls (id uuid, kind text);
	CREATE ROLE app LOGIN;
	GRANT SELECT ON events, weather TO app;
	GRANT INSERT ON calls TO app;
	CREATE FUNCTION fly(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF $1.event_type = 'FLY' THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		IF $1.event_type = 'FLY' AND (SELECT bad FROM weather) THEN
			RAISE EXCEPTION 'storm' USING ERRCODE = '08006';
		END IF;
		INSERT INTO calls VALUES ($1.id, $1.event_type);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, failure_threshold, reset_timeout)
		VALUES ('flight', 1000, '5 ms', '5 ms', 3, '50 ms');
	SELECT dbopt_register_handler('flight', 'FLY', 'fly(events)', 'events', policy => 'flight', run_as => 'app');
	SELECT dbopt_register_handler('walk', 'WALK', 'fly(events)', 'events', policy => 'flight', run_as => 'app');
});

sub insert_events
{
	my ($type, $count) = @_;

	$node->safe_psql('postgres',
		"INSERT INTO events (event_type, aggregate_type, aggregate_id, data) SELECT '$type', 'a', gen_random_uuid(), '{}'"
		  . " FROM generate_series(1, $count)");
	return;
}

sub wait_for
{
	my ($what, $condition) = @_;

	ok($node->poll_query_until('postgres', "SELECT coalesce(($condition), false)"), $what);
	return;
}

# A line is written a moment after what it tells of.
sub logged
{
	my ($line, $what) = @_;

	ok(eval { $node->wait_for_log($line); 1 }, $what);
	return;
}

insert_events('FLY', 20);
wait_for('trials fail, again and again',
	"SELECT tripped >= 3 FROM dbopt_circuit_breakers() WHERE name = 'flight'");
logged(qr/circuit breaker "flight" opened until \d/, 'opening is logged');
logged(qr/circuit breaker "flight" half-open, on trial/, 'trials are logged');

insert_events('WALK', 30);
wait_for('another handler is not held up', "SELECT count(*) = 30 FROM calls WHERE kind = 'WALK'");
is( $node->safe_psql('postgres', "SELECT dbopt_circuit_breaker_state('walk')"), 'CLOSED', '... its breaker is closed');
is($node->safe_psql('postgres', "SELECT count(*) FROM calls WHERE kind = 'FLY'"), '0', 'nothing of the first is delivered');

# Counted while the one trial stands still: what moves may be missed or counted
# twice.
my $trials = "SELECT coalesce(string_agg(pid::text, ', '), '0') FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
wait_for('a trial waits', "($trials) <> '0'");
ok( $node->poll_query_until('postgres', "SELECT sum(waiting + retrying) FROM dbopt_backlog() WHERE handler = 'flight'", '20'),
	'all of it waits');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;

$node->safe_psql('postgres', 'UPDATE weather SET bad = false');
wait_for('it is delivered when its cause is gone', "SELECT count(*) = 20 FROM calls WHERE kind = 'FLY'");
wait_for('and the breaker is closed', "SELECT dbopt_circuit_breaker_state('flight') = 'CLOSED'");
logged(qr/circuit breaker "flight" closed/, '... which is logged');
is($node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT id) FROM calls'), 't', 'no event was delivered twice');

# Tripped by hand, it stays open, and costs no attempts.
$node->safe_psql('postgres', "SELECT dbopt_drain(), dbopt_trip_circuit_breaker('flight')");
my $attempts = "SELECT attempts FROM dbopt_retry_stats() WHERE handler = 'flight'";
my $before = $node->safe_psql('postgres', $attempts);
insert_events('FLY', 5);
insert_events('WALK', 5);
wait_for('the other one works on', "SELECT count(*) = 35 FROM calls WHERE kind = 'WALK'");
is($node->safe_psql('postgres', $attempts), $before, 'an open breaker costs no attempts');
$node->safe_psql('postgres', "SELECT dbopt_reset_circuit_breaker('flight')");
wait_for('a reset lets all through at once', "SELECT count(*) = 25 FROM calls WHERE kind = 'FLY'");

# Statistics survive a clean restart.
$node->safe_psql('postgres', 'SELECT dbopt_drain()');
my $statistics = "SELECT handler, attempts, successes, failures, retries, successes_after_retry, dead_letters, mean_ms,"
  . " p50_ms, p99_ms, max_ms, last_error_code, last_error, last_error_at, last_success_at, stats_since"
  . " FROM dbopt_retry_stats() ORDER BY handler";
$before = $node->safe_psql('postgres', $statistics);
like($before, qr/^flight\|\d+\|25\|.*\|08006\|storm\|.*^walk\|35\|35\|0\|/ms, 'statistics are as expected');
$node->restart;
is($node->safe_psql('postgres', $statistics), $before, '... and the same after a restart');
insert_events('WALK', 1);
wait_for('... and go on from there', "SELECT successes = 36 FROM dbopt_retry_stats() WHERE handler = 'walk'");

# The session of a trial ends in the middle of it: another trial follows.
$node->safe_psql('postgres', 'UPDATE weather SET bad = true');
insert_events('FLY', 5);
wait_for('failures open the breaker again', "SELECT state <> 'CLOSED' FROM dbopt_circuit_breakers() WHERE name = 'flight'");
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
wait_for('a trial waits for a lock', "SELECT dbopt_circuit_breaker_state('flight') = 'HALF_OPEN' AND ($trials) <> '0'");
my $pids = $node->safe_psql('postgres', $trials);
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ($pids)");
wait_for('another trial follows one whose session was terminated', "SELECT EXISTS ($trials AND pid NOT IN ($pids) HAVING count(*) > 0)");
$node->safe_psql('postgres', 'UPDATE weather SET bad = false');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
wait_for('... which lets all through', "SELECT count(*) = 30 FROM calls WHERE kind = 'FLY'");
wait_for('... and closes the breaker', "SELECT dbopt_circuit_breaker_state('flight') = 'CLOSED'");
is($node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT id) FROM calls'), 't', '... with no event delivered twice');

# Slots are given back by what is no longer registered.
$node->safe_psql('postgres', "SELECT dbopt_unregister_handler('walk', true)");
$node->safe_psql('postgres',
	"SELECT dbopt_register_handler('walk', 'WALK', 'fly(events)', 'events', policy => 'flight', run_as => 'app')");
is($node->safe_psql('postgres', "SELECT attempts FROM dbopt_retry_stats() WHERE handler = 'walk'"),
	'0', 'a handler registered anew counts from zero');

$node->stop;
done_testing();
