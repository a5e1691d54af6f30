# Events whose handler kills its own backend, and with it the whole server: each
# ends as a dead letter after no more crashes than its policy has attempts, and
# everybody else's events are delivered, once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('poison');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
dbopt.pool_max = 5
log_statement = none
});
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE effects (handler text, id uuid);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('poison', 4, '200 ms', '400 ms', 'none', true, 1000),
		('patient', 4, '3 s', '3 s', 'none', true, 1000),
		('twice', 2, '200 ms', '200 ms', 'none', true, 1000),
		('once', 1, '200 ms', '200 ms', 'none', true, 1000);
	CREATE FUNCTION die() RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; PERFORM pg_sleep(60); /* handler */ END $$;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.event_type, e.id);
		IF e.data ? 'poison' THEN PERFORM die(); END IF;
		IF e.data ? 'slow' THEN PERFORM pg_sleep(2); /* handler */ END IF;
	END $$;
	CREATE FUNCTION handle(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.event_type, e.id);
		IF e.data ? 'poison' THEN PERFORM die(); END IF;
	END $$;
	CREATE FUNCTION handle(e log[]) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects SELECT event_type, id FROM unnest(e);
		IF EXISTS (SELECT FROM unnest(e) x WHERE x.data ? 'poison') THEN PERFORM die(); END IF;
	END $$;
	-- Is poison at the commit.
	CREATE FUNCTION die_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM die(); RETURN NULL; END $$;
	CREATE TABLE late (id uuid);
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die_late();
	CREATE FUNCTION commits(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.event_type, e.id);
		IF e.data ? 'poison' THEN INSERT INTO late VALUES (e.id); END IF;
	END $$;
	-- Fails at first, and then may be poison.
	CREATE FUNCTION later(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.event_type, e.id);
		IF NOT EXISTS (SELECT FROM dbopt_pending_retries r WHERE r.event_id = e.id::text) THEN
			RAISE 'not at first';
		END IF;
		IF e.data ? 'poison' THEN PERFORM die(); END IF;
	END $$;
	SELECT dbopt_register_handler('chunk', 'CHUNK', 'handle(log)', events => 'log', policy => 'poison');
	SELECT dbopt_register_handler('twice', 'TWICE', 'handle(log)', events => 'log', policy => 'twice');
	SELECT dbopt_register_handler('once', 'ONCE', 'handle(log)', events => 'log', policy => 'once');
	SELECT dbopt_register_handler('slow', 'SLOW', 'handle(log)', events => 'log', policy => 'poison');
	SELECT dbopt_register_handler('marks', 'MARKED', 'handle(marked)', events => 'marked', policy => 'patient');
	SELECT dbopt_register_handler('arrays', 'ARRAYS', 'handle(log[])', events => 'log', policy => 'poison');
	SELECT dbopt_register_handler('commits', 'COMMITS', 'commits(log)', events => 'log', policy => 'poison');
	SELECT dbopt_register_handler('later', 'LATER', 'later(log)', events => 'log', policy => 'poison');
	SELECT dbopt_register_handler('ordered', 'ORDERED', 'handle(log)', events => 'log', policy => 'poison', ordered => true);
});

sub crashes
{
	my ($offset) = @_;
	my @crashes = slurp_file($node->logfile, $offset) =~ /was terminated by signal 9/g;

	return scalar @crashes;
}

# The seconds between them, by the server's clock.
sub pauses
{
	my ($offset) = @_;
	my @times = map { my ($h, $m, $s) = split /:/; $s + 60 * ($m + 60 * $h) }
	  slurp_file($node->logfile, $offset) =~ /^\S+ (\d+:\d+:[\d.]+) .*was terminated by signal 9/mg;

	return map { ($times[$_] - $times[ $_ - 1 ] + 86400) % 86400 } 1 .. $#times;
}

# Writes events of a type, of which some are poison.
sub deliver
{
	my ($table, $type, $events, $poison, $before) = @_;

	$before //= '';
	write_poison($node, 'postgres', qq{
		$before;
		INSERT INTO $table (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		SELECT '$type', 'a', '00000000-0000-0000-0000-000000000001', n,
			CASE WHEN n IN ($poison) THEN '{"poison": 1}' ELSE '{}' END::jsonb
		FROM generate_series(1, $events) n});
	return;
}

# Drained, whatever crashes come in between.
sub wait_until_delivered
{
	my ($table, $type) = @_;

	ok( $node->poll_query_until('postgres', qq{
		SELECT count(*) = 0 FROM $table e WHERE event_type = '$type'
			AND NOT EXISTS (SELECT FROM effects x WHERE x.id = e.id)
			AND NOT EXISTS (SELECT FROM dbopt_dead_letters d WHERE d.event_id = e.id::text)}),
		"$type: all are delivered or given up")
	  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_chunk; SELECT * FROM dbopt_retry_queue; SELECT * FROM dbopt_attempt');
	return;
}

sub check
{
	my ($table, $type, $handler, $attempts) = @_;

	is( $node->safe_psql('postgres', qq{
		SELECT count(*) FILTER (WHERE (e.data ? 'poison') <> (d.event_id IS NOT NULL)) AS wrongly_given_up,
			count(*) FILTER (WHERE coalesce(x.n, 0) <> CASE WHEN e.data ? 'poison' THEN 0 ELSE 1 END) AS not_once
		FROM $table e LEFT JOIN dbopt_dead_letters d ON d.event_id = e.id::text AND d.handler = '$handler'
			LEFT JOIN (SELECT id, count(*) AS n FROM effects GROUP BY id) x ON x.id = e.id
		WHERE e.event_type = '$type'}),
		'0|0', "$type: only poison is given up, all else has run once");
	is( $node->safe_psql('postgres', qq{
		SELECT DISTINCT attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = '$handler'}),
		"$attempts|57P02|the server crashed while handler \"$handler\" ran this event and no other handler ran",
		"$type: the error tells the truth");
	return;
}

# One of many in a chunk, and one that is slow in another session.
my $offset = -s $node->logfile;
$node->safe_psql('postgres', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('SLOW', 'a', dbopt_uuid_v7(), '{"slow": 1}')});
deliver('log', 'CHUNK', 300, '7');
wait_until_delivered('log', 'CHUNK');
check('log', 'CHUNK', 'chunk', 4);
cmp_ok(crashes($offset), '<=', 4, 'CHUNK: no more crashes than attempts');
wait_until_delivered('log', 'SLOW');
is($node->safe_psql('postgres', "SELECT count(*) FROM dbopt_dead_letters WHERE handler = 'slow'"),
	'0', 'one that is slow is not given up');

# Policies with few attempts: it takes two crashes to know who does it.
foreach my $type (qw(TWICE ONCE))
{
	$offset = -s $node->logfile;
	deliver('log', $type, 20, '3');
	wait_until_delivered('log', $type);
	check('log', $type, lc $type, 2);
	cmp_ok(crashes($offset), '<=', 2, "$type: no more than two crashes");
}

# Where events are marked.
$offset = -s $node->logfile;
deliver('marked', 'MARKED', 20, '20');
wait_until_delivered('marked', 'MARKED');
check('marked', 'MARKED', 'marks', 4);
cmp_ok(crashes($offset), '<=', 4, 'MARKED: no more crashes than attempts');

# Between the first two there need only be a second.
my (undef, @pauses) = pauses($offset);
is(scalar(@pauses), 2, 'MARKED: what has crashed the server again');
cmp_ok($_, '>=', 3, '... waits for as long as its policy says') foreach @pauses;
is( $node->safe_psql('postgres', q{
	SELECT processed, retry_count, error_message ~ 'crashed', count(*) FROM marked GROUP BY 1, 2, 3 ORDER BY 1}),
	"f|4|t|1\nt|0||19", 'MARKED: the table says so');

# A poisonous retry, in the middle of an aggregate, among those that are handled
# together, and when nothing but the commit is left.
foreach my $case (['LATER', 20, '5'], ['ORDERED', 10, '4'], ['ARRAYS', 20, '5'], ['COMMITS', 20, '5'])
{
	my ($type, $events, $poison) = @$case;

	$offset = -s $node->logfile;
	deliver('log', $type, $events, $poison);
	wait_until_delivered('log', $type);
	check('log', $type, lc $type, 4);
	cmp_ok(crashes($offset), '<=', 4, "$type: no more crashes than attempts");
}

# Where commits are not flushed, and nobody else has had the time to do that: what
# was handed out is known after a crash all the same.
$node->safe_psql('postgres', 'ALTER ROLE CURRENT_USER SET synchronous_commit = off');
$node->safe_psql('postgres', q{SELECT dbopt_register_handler('unflushed', 'UNFLUSHED', 'handle(log)', 'log', policy => 'poison', max_concurrency => 1)});
$offset = -s $node->logfile;
my $walwriter = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
END { kill 'CONT', $walwriter if defined $walwriter; }
kill 'STOP', $walwriter;
deliver('log', 'UNFLUSHED', 400, '300', 'SET synchronous_commit = on');
$node->wait_for_log(qr/was terminated by signal 9/, $offset);
kill 'CONT', $walwriter;
$walwriter = undef;
wait_until_delivered('log', 'UNFLUSHED');
check('log', 'UNFLUSHED', 'unflushed', 4);
cmp_ok(crashes($offset), '<=', 4, 'UNFLUSHED: no more crashes than attempts');

is( $node->safe_psql('postgres', q{
	SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue),
		(SELECT count(*) FROM dbopt_attempt), (SELECT count(*) FROM dbopt_ordered)}),
	'0|0|0|0', 'nothing is left behind');
$node->stop;
done_testing();
