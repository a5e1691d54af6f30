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

# No handler of these takes long.  The policy "again" has no delay to speak of;
# the one of "marks" has, which a suspect of a crash must not wait for.
$node->safe_psql('postgres', q{
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
	my ($name, $id, $begun) = @_;
	my $ready = ready_since();
	my $at = "SELECT min(at) FROM effects WHERE handler = 'plain' AND id = '$id'";

	$node->poll_query_until('postgres', "SELECT ($at) IS NOT NULL") or die 'a suspect is not run';
	is( $node->safe_psql('postgres', "SELECT ($at) > '$begun' AND ($at) - '$ready' < '$bound'"),
		't', "$name: what was being run goes on within $bound")
	  or diag $node->safe_psql('postgres', "SELECT ($at) - '$ready'");
	return;
}

# Leaves one event in the middle of its handler, without company in its chunk;
# returns which, and a time when it has been called.
sub begin_one
{
	$node->safe_psql('postgres', "UPDATE switches SET is_on = true WHERE name = 'linger'");
	my $id = $node->safe_psql('postgres', q{
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('LINGER', 'a', dbopt_uuid_v7(), '{}') RETURNING id});

	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'PgSleep'")
	  or die 'it does not begin';
	$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'linger'");
	return ($id, $node->safe_psql('postgres', 'SELECT clock_timestamp()'));
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
	my @event = begin_one();

	$ends{$end}->();
	resumes($end);
	suspects_go($end, @event);
}

stop_writers();
$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
all_once($node, 'at the end');
$node->stop;
done_testing();
