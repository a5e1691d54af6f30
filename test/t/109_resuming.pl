# How soon delivery resumes by itself: 5 s after the server accepts connections,
# whatever end it had.  By the server's own clock, in the database and the log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $bound = '5 s';
my $node = survival_node('resuming');

# No handler of these takes long, but for the first call for an event that
# lingers.  The policy "again" has no delay to speak of; the one of "marks" has,
# which a suspect of a crash must not wait for.
$node->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION marks(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects (handler, id) VALUES ('marks', e.id);
		IF e.event_type <> 'LINGER' THEN
			IF random() < 0.1 THEN RAISE 'not now'; END IF;
		ELSIF (SELECT is_on FROM switches WHERE name = 'linger') THEN
			PERFORM pg_sleep(600); -- work
		END IF;
	END $$;
	ALTER TABLE effects ADD COLUMN at timestamptz DEFAULT clock_timestamp();
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('patient', 1000, '20 s', '20 s', 'none', true, 1000000);
	SELECT dbopt_register_handler('marks', '*', 'marks(marked)', events => 'marked', max_concurrency => 2,
		policy => 'patient', replace => true)});

# When the server began to accept connections, for the last time.
sub ready_since
{
	my @times = slurp_file($node->logfile) =~
	  /^(\S+ \S+ \S+) .*database system is ready to accept connections/mg;

	return $times[-1];
}

# Waits for the first effects since then, and tells how long they took.
sub resumes
{
	my ($name) = @_;

	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	my $ready = ready_since();

	foreach my $handler (qw(plain flaky in_order marks))
	{
		my $first = "SELECT min(at) FROM effects WHERE handler = '$handler' AND at > '$ready'";

		$node->poll_query_until('postgres', "SELECT ($first) IS NOT NULL")
		  or die "$handler does not go on";
		is( $node->safe_psql('postgres', "SELECT ($first) - '$ready' < '$bound'"),
			't', "$name: $handler goes on within $bound")
		  or diag $node->safe_psql('postgres', "SELECT ($first) - '$ready'");
		note "$name, $handler: ", $node->safe_psql('postgres', "SELECT ($first) - '$ready'");
	}
	return;
}

# What was begun before the end, and had no effect yet, is suspect.  It has one
# soon, though there is nothing to wait for it but itself; that may even be before
# the server has said that it is ready, since workers are started first.
sub suspects_go
{
	my ($name, $begun, %events) = @_;
	my $ready = ready_since();

	foreach my $handler (sort keys %events)
	{
		my $at = "SELECT min(at) FROM effects WHERE handler = '$handler' AND id = '$events{$handler}'";

		$node->poll_query_until('postgres', "SELECT ($at) IS NOT NULL") or die 'a suspect is not run';
		is( $node->safe_psql('postgres', "SELECT ($at) > '$begun' AND ($at) - '$ready' < '$bound'"),
			't', "$name: what $handler was being run for goes on within $bound")
		  or diag $node->safe_psql('postgres', "SELECT ($at) - '$ready'");
	}
	return;
}

# Leaves one event each in the middle of two handlers, without company in its
# chunk; returns a time when they have been called, and which they are.  Suspects
# of the last crash would be kept waiting by one of the two, and could keep the
# other one waiting; those of "down" are so many, and fail, that they take minutes.
sub begin_events
{
	my %tables = (plain => 'log', marks => 'marked');
	my %events;

	$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM dbopt_chunk WHERE suspicion > 0)
		AND NOT EXISTS (SELECT FROM dbopt_retry_queue WHERE suspicion > 0)})
	  or die 'suspects of the last crash are left';
	$node->safe_psql('postgres', "UPDATE switches SET is_on = true WHERE name IN ('linger', 'down')");
	$events{$_} = $node->safe_psql('postgres', qq{
		INSERT INTO $tables{$_} (event_type, aggregate_type, aggregate_id, data)
		VALUES ('LINGER', 'a', dbopt_uuid_v7(), '{}') RETURNING id}) foreach keys %tables;

	$node->poll_query_until('postgres',
		"SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'PgSleep'")
	  or die 'it does not begin: ', $node->safe_psql('postgres', q{
		SELECT p.*, a.wait_event, pg_blocking_pids(p.pid), a.query
		  FROM dbopt_pool_sessions() p JOIN pg_stat_activity a USING (pid)});
	$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'linger'");
	return ($node->safe_psql('postgres', 'SELECT clock_timestamp()'), %events);
}

my %ends = (
	'immediate shutdown' => sub { $node->stop('immediate'); $node->start; },
	'SIGKILL for the postmaster' => sub { kill_postmaster($node); },
	'SIGKILL for a session' => sub {
		my $offset = -s $node->logfile;

		kill_worker($node, 'session', 'KILL');
		$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	},
	'fast shutdown' => sub { $node->stop('fast'); $node->start; });

start_writers($node);
delivers_again($node, 'at the beginning');
foreach my $end (sort keys %ends)
{
	my @begun = begin_events();

	$ends{$end}->();
	resumes($end);
	suspects_go($end, @begun);
}

stop_writers();
$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
all_once($node, 'at the end');
$node->stop;
done_testing();
