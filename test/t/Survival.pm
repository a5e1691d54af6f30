# What the tests that end processes have in common: two event tables, one of
# each kind, with handlers of all kinds; writers that go on whatever happens to
# the server; and the one question that counts: has each committed event had
# its effect exactly once?
package Survival;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(survival_node start_writers stop_writers delivers_again
  all_once worker_pids kill_worker kill_postmaster start_again);

my $writers_dir = PostgreSQL::Test::Utils::tempdir;
my @writers;

# A server with handlers that succeed, fail now and then, are ordered, and are
# down until they are told otherwise.  The extension is created with $options.
sub survival_node
{
	my ($name, $options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
dbopt.pool_max = 6
log_statement = none
});
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION dbopt ' . ($options // '') . ' CASCADE');
	$node->safe_psql('postgres', q{
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE effects (n bigserial, handler text, id uuid);
	CREATE TABLE switches (name text PRIMARY KEY, is_on boolean);
	INSERT INTO switches VALUES ('down', true), ('linger', false), ('late', false);
	CREATE TABLE beats (id uuid);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown,
		failure_threshold, reset_timeout)
	VALUES ('again', 1000, '20 ms', '100 ms', 'none', true, 1000000, '1 s'),
		('down', 1000, '20 ms', '100 ms', 'none', true, 2, '300 ms');
	CREATE FUNCTION plain(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('plain', e.id);
		IF e.event_type = 'LINGER' AND (SELECT is_on FROM switches WHERE name = 'linger') THEN
			PERFORM pg_sleep(600); -- work
		END IF;
	END $$;
	CREATE FUNCTION flaky(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('flaky', e.id);
		IF random() < 0.3 THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION down(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('down', e.id);
		IF (SELECT is_on FROM switches WHERE name = 'down') THEN RAISE 'down'; END IF;
	END $$;
	CREATE FUNCTION in_order(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('in_order', e.id);
		IF random() < 0.1 THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION marks(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('marks', e.id);
		IF random() < 0.1 THEN RAISE 'not now'; END IF;
	END $$;
	-- Runs when the handler's transaction commits.
	CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT is_on FROM switches WHERE name = 'late') THEN
			PERFORM pg_sleep(600); -- work
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.handler = 'marks') EXECUTE FUNCTION late();
	SELECT dbopt_register_handler('plain', '*', 'plain(log)', events => 'log', max_concurrency => 3, policy => 'again');
	SELECT dbopt_register_handler('flaky', '*', 'flaky(log)', events => 'log', max_concurrency => 2, policy => 'again');
	SELECT dbopt_register_handler('down', 'T1', 'down(log)', events => 'log', policy => 'down');
	SELECT dbopt_register_handler('in_order', 'ORDERED', 'in_order(log)', events => 'log', ordered => true, policy => 'again');
	SELECT dbopt_register_handler('marks', '*', 'marks(marked)', events => 'marked', max_concurrency => 2, policy => 'again');
	});
	return $node;
}

# Writes events of both kinds all the time, each transaction some of them.
sub start_writers
{
	my ($node) = @_;
	my $script = "$writers_dir/insert.sql";

	unlink "$writers_dir/stop";
	append_to_file($script, q{
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT 'T' || n % 3, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 6) n;
	INSERT INTO marked (event_type, aggregate_type, aggregate_id, data)
		SELECT 'T' || n % 3, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 3) n;
	WITH aggregate AS MATERIALIZED (SELECT dbopt_uuid_v7() AS id)
	INSERT INTO log (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		SELECT 'ORDERED', 'o', id, n, '{}' FROM aggregate, generate_series(1, 3) n;
	SELECT pg_sleep(0.1); -- work
	}) unless -e $script;
	foreach my $i (1 .. 2)
	{
		push @writers,
		  IPC::Run::start(
			[
				'bash', '-c',
				"while [ -d $writers_dir ] && [ ! -e $writers_dir/stop ]; do psql -X -q -f $script; done"
			],
			'<', \undef, '>', '/dev/null', '2>', '/dev/null',
			init => sub {
				$ENV{PGHOST} = $node->host;
				$ENV{PGPORT} = $node->port;
				$ENV{PGDATABASE} = 'postgres';
			});
	}
	return;
}

sub stop_writers
{
	append_to_file("$writers_dir/stop", '');
	$_->finish foreach @writers;
	@writers = ();
	return;
}

# An event that is written now has its effect, by itself.
sub delivers_again
{
	my ($node, $name) = @_;

	ok($node->poll_query_until('postgres', 'SELECT true'), "$name: the server accepts connections");
	my $id = $node->safe_psql('postgres', q{
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('T0', 'a', dbopt_uuid_v7(), '{}') RETURNING id});

	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$id'"),
		"$name: delivery has resumed");
	return;
}

# Waits until all is delivered, and compares events with effects.
sub all_once
{
	my ($node, $name) = @_;

	is($node->safe_psql('postgres', "SELECT dbopt_drain('100 s')"), 't', "$name: nothing is left to deliver")
	  or diag $node->safe_psql('postgres',
		'SELECT * FROM dbopt_backlog(); SELECT * FROM dbopt_circuit_breakers(); SELECT * FROM dbopt_chunk');
	foreach my $case (
		[ 'plain', 'log', 'true' ], [ 'flaky', 'log', 'true' ],
		[ 'down', 'log', "event_type = 'T1'" ],
		[ 'in_order', 'log', "event_type = 'ORDERED'" ],
		[ 'marks', 'marked', 'true' ])
	{
		my ($handler, $table, $condition) = @$case;

		is( $node->safe_psql('postgres', qq{
			SELECT count(*) FILTER (WHERE x.id IS NULL) AS missing,
				count(*) FILTER (WHERE x.n > 1) AS doubled,
				count(*) FILTER (WHERE e.id IS NULL) AS invented,
				count(e.id) > 0 AS enough
			  FROM (SELECT id FROM $table WHERE $condition) e
			  FULL JOIN (SELECT id, count(*) AS n FROM effects
					WHERE handler = '$handler' GROUP BY id) x USING (id)}),
			'0|0|0|t', "$name: $handler has had each event once");
	}
	is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM effects a JOIN log ea USING (id) JOIN log eb USING (aggregate_id)
			JOIN effects b ON b.id = eb.id
			WHERE a.handler = 'in_order' AND b.handler = 'in_order'
			AND ea.aggregate_version < eb.aggregate_version AND a.n > b.n}),
		'0', "$name: versions came in their order");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM marked WHERE NOT processed'),
		'0', "$name: all are marked as processed");
	is( $node->safe_psql('postgres', q{
		SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue),
			(SELECT count(*) FROM dbopt_dead_letter), (SELECT sum(in_flight) FROM dbopt_retry_stats())}),
		'0|0|0|0', "$name: nothing is left behind");
	return;
}

# The pids of workers of a type, those at work first.
sub worker_pids
{
	my ($node, $type) = @_;

	return split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'dbopt $type' ORDER BY state IS DISTINCT FROM 'active', pid");
}

# Sends a signal to one of them, when there is one.
sub kill_worker
{
	my ($node, $type, $signal) = @_;
	my $pid;

	# It may have gone by itself when it is looked for again.
	until (defined $pid)
	{
		$node->poll_query_until('postgres',
			"SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dbopt $type'")
		  or die "there is no dbopt $type";
		($pid) = worker_pids($node, $type);
	}
	kill $signal, $pid;
	return $pid;
}

# Kills the postmaster and starts another one, as soon as the old one's
# children have noticed and its memory is free.
sub kill_postmaster
{
	my ($node) = @_;

	$node->kill9;
	start_again($node);
	return;
}

# Starts a server whose postmaster was killed.
sub start_again
{
	my ($node) = @_;

	foreach my $try (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		# A start that fails takes the pid in the old lock file for its own.
		$node->{_pid} = undef;
		return if $node->start(fail_ok => 1);
	}
	die 'the server does not start';
}

1;
