# After a crash: what may have caused it is run with nothing else beside it, in
# any database, and an end that was wanted counts against nobody.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('probation');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
dbopt.pool_max = 4
log_statement = none
});
$node->start;

# Handlers that wait until they are let go, and one that does not.
foreach my $db (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, q{
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('log', false);
		CREATE TABLE effects (id uuid);
		CREATE TABLE gate (is_open boolean);
		INSERT INTO gate VALUES (false);
		CREATE FUNCTION wait(e log) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO effects VALUES (e.id);
			WHILE NOT (SELECT is_open FROM gate) LOOP
				PERFORM pg_sleep(0.05); /* handler */
			END LOOP;
		END $$;
		CREATE FUNCTION go(e log) RETURNS void LANGUAGE plpgsql
			AS $$ BEGIN INSERT INTO effects VALUES (e.id); END $$;
		INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
		VALUES ('twice', 2, '10 ms', '10 ms', 'none', true);
		SELECT dbopt_register_handler('wait', 'WAIT.*', 'wait(log)', policy => 'twice');
		SELECT dbopt_register_handler('go', 'GO', 'go(log)', policy => 'twice');
	});
}

sub add_event
{
	my ($db, $type) = @_;

	$node->safe_psql($db, "INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('$type', 'a', dbopt_uuid_v7(), '{}')");
	return;
}

sub wait_for
{
	my ($db, $query, $expected, $name) = @_;

	ok($node->poll_query_until($db, $query, $expected), $name)
	  or diag $node->safe_psql('postgres', "SELECT pid, datname, backend_type, state, query, wait_event FROM pg_stat_activity WHERE backend_type ~ 'dbopt'")
	  . $node->safe_psql($db, 'SELECT * FROM dbopt_chunk; SELECT * FROM dbopt_attempt; SELECT * FROM dbopt_retry_queue');
	return;
}

my $at_work = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND state = 'active'";

# Kills a session; waits until the server is there again.
sub crash
{
	my $offset = -s $node->logfile;

	kill 'KILL', $node->safe_psql('postgres', "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt session'");
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT true');
	return;
}

# Two at work in each database.
foreach my $db (qw(one two))
{
	add_event($db, 'WAIT.1');
	add_event($db, 'WAIT.2');
}
wait_for('postgres', $at_work, 4, 'four sessions are at work');
crash();
add_event($_, 'GO') foreach qw(one two);
wait_for('postgres', $at_work, 1, 'after a crash one of them is at work');
my $alone = $node->safe_psql('postgres', "SELECT datname FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND state = 'active'");
is($node->safe_psql($alone, "SELECT count(*) FROM dbopt_attempt"), 1, 'that is written down');
foreach my $db (qw(one two))
{
	is($node->safe_psql($db, 'SELECT dbopt_drain(\'1 s\')'), 'f', "$db: not drained");
	is($node->safe_psql($db, 'SELECT count(*) FROM effects'), 0, "$db: what came since waits");
}

# Ends that were wanted.
foreach my $end (qw(terminate scheduler fast immediate))
{
	my $mine = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND query ~ 'suspects' AND state = 'active'";

	wait_for('postgres', $mine, 1, "a suspect runs before: $end");
	if ($end eq 'terminate')
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND state = 'active'");

		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		wait_for('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 0, 'the session has gone');
	}
	elsif ($end eq 'scheduler')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'");
		wait_for('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'", 2, 'schedulers are back');
	}
	else
	{
		$node->stop($end);
		$node->start;
	}
	is($node->safe_psql('postgres', $at_work) <= 1, 1, "no other runs after: $end");
}
wait_for('postgres', $at_work, 1, 'a suspect runs alone still');

foreach my $db (qw(one two))
{
	$node->safe_psql($db, 'UPDATE gate SET is_open = true');
}
foreach my $db (qw(one two))
{
	is($node->safe_psql($db, "SELECT dbopt_drain('60 s')"), 't', "$db: drained when the suspects are through");
	is( $node->safe_psql($db, q{
		SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM log),
			(SELECT count(*) FROM dbopt_dead_letter), (SELECT count(*) FROM dbopt_attempt) FROM effects}),
		'3|3|3|0|0', "$db: each event once, and none given up");
}

# Then there is nothing that anybody waits for.
$node->safe_psql($_, 'UPDATE gate SET is_open = false') foreach qw(one two);
foreach my $db (qw(one two))
{
	add_event($db, 'WAIT.1');
	add_event($db, 'WAIT.2');
}
wait_for('postgres', $at_work, 4, 'four sessions are at work at a time again');
$node->safe_psql($_, 'UPDATE gate SET is_open = true') foreach qw(one two);
ok($node->safe_psql($_, "SELECT dbopt_drain('60 s')"), "$_: drained again") foreach qw(one two);

# What waits behind the suspects is found without anybody's saying so.
$node->safe_psql('one', q{
	UPDATE gate SET is_open = false;
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	SELECT 'WAIT.3', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 300)});
wait_for('postgres', "SELECT ($at_work) > 0", 't', 'many events are at work');
crash();
wait_for('one', 'SELECT count(*) FROM dbopt_attempt', 1, 'the first of them run alone');
wait_for('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND state = 'idle'",
	2, 'the schedulers have nothing else to do');
$node->safe_psql('one', 'UPDATE gate SET is_open = true');
is($node->safe_psql('one', "SELECT dbopt_drain('60 s')"), 't', 'drained after the last crash');
is($node->safe_psql('one', 'SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM log) FROM effects'),
	'305|305|305', 'each event once');
$node->stop('fast');
done_testing();
