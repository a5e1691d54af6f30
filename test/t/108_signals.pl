# A scheduler and a launcher that are told to quit at once, or that stand still
# and go on, under load: nothing is lost, nothing is doubled, and delivery
# resumes by itself.  SIGKILL is in 101_kill.pl, SIGTERM in 100_terminate.pl.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $node = survival_node('signals');

sub count_workers
{
	my ($type) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt $type'");
}

# Is it waiting for its latch?  False also when nobody answers.
sub is_at_rest
{
	my ($pid) = @_;
	my ($out, $timed_out);

	$node->psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid",
		stdout => \$out, timeout => 10, timed_out => \$timed_out);
	return defined($out) && $out eq 'Extension';
}

# Stops the only worker of a type where it holds nothing that others wait for:
# what stands still in the middle of a commit, no server can go on without.
sub stop_worker
{
	my ($type) = @_;
	my ($pid) = worker_pids($node, $type);

	foreach my $try (1 .. 100)
	{
		kill 'STOP', $pid;
		return $pid if is_at_rest($pid);
		kill 'CONT', $pid;
	}
	die "the $type never rests";
}

sub add_event
{
	return $node->safe_psql('postgres', q{
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('T0', 'a', dbopt_uuid_v7(), '{}') RETURNING id});
}

sub wait_for
{
	my ($condition, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT $condition"), $name);
	return;
}

# ---- told to quit at once -------------------------------------------------

start_writers($node);
delivers_again($node, 'at the beginning');
foreach my $type (qw(scheduler launcher))
{
	my $offset = -s $node->logfile;

	kill_worker($node, $type, 'QUIT');
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	delivers_again($node, "after SIGQUIT for a $type");
}

# ---- standing still -------------------------------------------------------

# The launcher is needed by nobody who is at work.
my $launcher = stop_worker('launcher');
delivers_again($node, 'beside a launcher that stands still');
my $scheduler = kill_worker($node, 'scheduler', 'TERM');
wait_for("count(*) = 0 FROM pg_stat_activity WHERE pid = $scheduler", 'a scheduler ends meanwhile');
my $event = add_event();
is(count_workers('scheduler'), '0', 'nobody starts another');
kill 'CONT', $launcher;
wait_for("count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$event'", 'the launcher goes on, and so does delivery');

# What has no scheduler that listens waits, and nobody takes its place.
$scheduler = stop_worker('scheduler');
wait_for(q{count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND state = 'active'},
	'sessions end what they are at beside a scheduler that stands still');
$event = add_event();
kill_worker($node, 'launcher', 'TERM');
wait_for("count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt launcher' AND wait_event_type = 'Extension'",
	'there is a new launcher');
is_deeply([ worker_pids($node, 'scheduler') ], [$scheduler], 'it takes the scheduler for alive');
is($node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE id = '$event'"), '0', 'an event waits');
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'");
is(count_workers('session'), '0', 'its sessions are ended');
kill 'CONT', $scheduler;
wait_for("count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$event'", 'it is delivered when the scheduler goes on');
is_deeply([ worker_pids($node, 'scheduler') ], [$scheduler], 'which is the same');
delivers_again($node, 'after that');

# Told to end while it stands still, it does so when it goes on.
$scheduler = stop_worker('scheduler');
kill 'TERM', $scheduler;
$event = add_event();
is_deeply([ worker_pids($node, 'scheduler') ], [$scheduler], 'a scheduler that stands still cannot end');
kill 'CONT', $scheduler;
wait_for("count(*) = 0 FROM pg_stat_activity WHERE pid = $scheduler", 'it ends when it goes on');
wait_for("count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$event'", 'another one delivers what has come since');
is(count_workers('scheduler'), '1', 'there is one');

# A crash does not wait for what stands still.
foreach my $type (qw(scheduler launcher))
{
	my $offset = -s $node->logfile;

	stop_worker($type);
	kill_worker($node, 'session', 'KILL');
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	delivers_again($node, "after a crash beside a $type that stands still");
}

# A postmaster that has died: its successor does not start before the old
# scheduler has gone, which goes when it goes on, and does nothing before.
$scheduler = stop_worker('scheduler');
$node->kill9;
ok(!$node->start(fail_ok => 1), 'no server starts beside a scheduler of the one before');
kill 'CONT', $scheduler;
start_again($node);
delivers_again($node, 'after SIGKILL for the postmaster beside a scheduler that stands still');

stop_writers();
$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
all_once($node, 'at the end');
$node->stop;
done_testing();
