# Processes that die without a word, under load, and at chosen moments: the
# postmaster starts everything anew, and each event has its effect once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $node = survival_node('kill');

# Waits until the server has noticed that one of its processes has died.
sub wait_for_crash
{
	my ($offset) = @_;

	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	return;
}

sub add_event
{
	my ($table, $type) = @_;

	$node->safe_psql('postgres', "INSERT INTO $table (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		VALUES ('$type', 'o', dbopt_uuid_v7(), 1, '{}')");
	return;
}

sub turn
{
	my ($name, $on) = @_;

	$node->safe_psql('postgres', "UPDATE switches SET is_on = $on WHERE name = '$name'");
	return;
}

# The session that waits for something, once there is one.
sub session_waiting
{
	my ($condition) = @_;
	my $query = "FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND $condition";

	$node->poll_query_until('postgres', "SELECT count(*) > 0 $query")
	  or die "no session waits: $condition";
	return $node->safe_psql('postgres', "SELECT min(pid) $query");
}

# ---- under load -----------------------------------------------------------

start_writers($node);
delivers_again($node, 'at the beginning');
foreach my $case ([ 'session', 'KILL' ], [ 'scheduler', 'KILL' ], [ 'launcher', 'KILL' ], [ 'session', 'QUIT' ])
{
	my ($type, $signal) = @$case;
	my $offset = -s $node->logfile;

	kill_worker($node, $type, $signal);
	wait_for_crash($offset);
	delivers_again($node, "after SIG$signal for a $type");
}
kill_postmaster($node);
delivers_again($node, 'after SIGKILL for the postmaster');
stop_writers();

# ---- at chosen moments ----------------------------------------------------

# In the middle of a handler, whose effect is written and not committed.
turn('linger', 'true');
add_event('log', 'LINGER');
my $pid = session_waiting("wait_event = 'PgSleep'");
my $offset = -s $node->logfile;
kill 'KILL', $pid;
wait_for_crash($offset);
delivers_again($node, 'after SIGKILL in the middle of a handler, which goes on beside it');
turn('linger', 'false');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");

# A session that stands still and goes on is not taken for dead.
turn('linger', 'true');
add_event('log', 'LINGER');
$pid = session_waiting("wait_event = 'PgSleep'");
kill 'STOP', $pid;
delivers_again($node, 'beside a session that stands still');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
turn('linger', 'false');
kill 'CONT', $pid;
delivers_again($node, 'when it goes on');

# Between handing out and running: the chunk is there, the handler has not
# begun.  Where it is a parked event that waits, another one is added.
sub handed_out
{
	my ($locker) = @_;
	my ($waiting, $chunks);

	foreach (1 .. 20)
	{
		$locker->query_safe('BEGIN');
		$locker->query_safe('LOCK TABLE dbopt_ordered IN SHARE MODE');
		add_event('log', 'ORDERED');
		$waiting = session_waiting("wait_event_type = 'Lock'");
		$chunks = $node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_chunk');
		last if $chunks > 0;
		$locker->query_safe('COMMIT');
	}
	cmp_ok($chunks, '>', 0, 'a chunk is handed out, and not yet run');
	return $waiting;
}

foreach my $signal (qw(TERM KILL))
{
	my $locker = $node->background_psql('postgres');

	$pid = handed_out($locker);
	$offset = -s $node->logfile;
	kill $signal, $pid;
	wait_for_crash($offset) if $signal eq 'KILL';
	$locker->query('COMMIT') if $signal eq 'TERM';
	eval { $locker->quit };
	delivers_again($node, "after SIG$signal between hand-out and run");
}

# Between running and commit.
foreach my $signal (qw(TERM KILL))
{
	turn('late', 'true');
	add_event('marked', 'T1');
	$pid = session_waiting("wait_event = 'PgSleep'");
	$offset = -s $node->logfile;
	kill $signal, $pid;
	wait_for_crash($offset) if $signal eq 'KILL';
	$node->poll_query_until('postgres', 'SELECT true');
	turn('late', 'false');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
	delivers_again($node, "after SIG$signal between run and commit");
}

ok( $node->safe_psql('postgres', "SELECT count(*) > 0 FROM dbopt_pending_retries WHERE handler = 'down'"),
	'retries were pending all the time');
turn('down', 'false');
all_once($node, 'at the end');
$node->stop;
done_testing();
