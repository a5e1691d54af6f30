# Processes that are told to end, stand still, or die without a word, under load
# and at chosen moments: each event has its effect once.
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

	return $node->safe_psql('postgres', "INSERT INTO $table (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		VALUES ('$type', 'o', dbopt_uuid_v7(), 1, '{}') RETURNING id");
}

# How often a handler has had an effect for an event.
sub effects
{
	my ($handler, $id) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM effects WHERE handler = '$handler' AND id = '$id'");
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

# Between handing out and running: the chunk is there, the handler has not
# begun.  Where it is a parked event that waits, another one is added.
sub handed_out
{
	my ($locker) = @_;
	my ($waiting, $chunks, $id);

	foreach (1 .. 20)
	{
		$locker->query_safe('BEGIN');
		$locker->query_safe('LOCK TABLE dbopt_ordered IN SHARE MODE');
		$id = add_event('log', 'ORDERED');
		$waiting = session_waiting("wait_event_type = 'Lock'");
		$chunks = $node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_chunk');
		last if $chunks > 0;
		$locker->query_safe('COMMIT');
	}
	cmp_ok($chunks, '>', 0, 'a chunk is handed out, and not yet run');
	return ($waiting, $id);
}

# A new scheduler finds what has been handed out, and does not know who has it.
sub new_scheduler
{
	my $pid = kill_worker($node, 'scheduler', 'TERM');

	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND pid <> $pid"),
		'... there is a new scheduler');
	delivers_again($node, '... which delivers');
	return;
}

# ---- sessions that end or stand still ---------------------------------------

# Before anything has crashed, and while nothing else is delivered.
# One that is told to end in the middle of a handler counts against no event.
turn('linger', 'true');
my $event = add_event('log', 'LINGER');
my $pid = session_waiting("wait_event = 'PgSleep'");
turn('linger', 'false');
kill 'TERM', $pid;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$event'"),
	'after SIGTERM in the middle of a handler another session runs it');
is($node->safe_psql('postgres', "SELECT count(*) FROM dbopt_pending_retries WHERE handler = 'plain'"), '0', '... and it has not failed');

# A session that stands still and goes on is not taken for dead.
turn('linger', 'true');
$event = add_event('log', 'LINGER');
$pid = session_waiting("wait_event = 'PgSleep'");
turn('linger', 'false');
kill 'STOP', $pid;
delivers_again($node, 'beside a session that stands still');
new_scheduler();
is(effects('plain', $event), '0', '... nobody else runs its event');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
kill 'CONT', $pid;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM effects WHERE handler = 'plain' AND id = '$event'"),
	'... which has its effect when it goes on');

# Between hand-out and run.
my $locker = $node->background_psql('postgres');
($pid, $event) = handed_out($locker);
kill 'STOP', $pid;
$locker->query_safe('COMMIT');
delivers_again($node, 'beside a session that stands still between hand-out and run');
new_scheduler();
is(effects('in_order', $event), '0', '... whose events nobody else runs');
kill 'CONT', $pid;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM effects WHERE handler = 'in_order' AND id = '$event'"),
	'... and it does when it goes on');
$locker->quit;

# Between run and commit.
turn('late', 'true');
$event = add_event('marked', 'T1');
$pid = session_waiting("wait_event = 'PgSleep'");
turn('late', 'false');
kill 'STOP', $pid;
my $other = add_event('marked', 'T2');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM effects WHERE handler = 'marks' AND id = '$other'"),
	'beside a session that stands still between run and commit others go on');
is(effects('marks', $event), '0', '... but nobody runs its event');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
kill 'CONT', $pid;
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM effects WHERE handler = 'marks' AND id = '$event'"),
	'... which has its effect when it goes on');

# ---- crashes under load -----------------------------------------------------

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

# ---- crashes at chosen moments ----------------------------------------------

# In the middle of a handler, whose effect is written and not committed.
my $offset;
foreach my $signal (qw(KILL QUIT))
{
	turn('linger', 'true');
	add_event('log', 'LINGER');
	$pid = session_waiting("wait_event = 'PgSleep'");
	$offset = -s $node->logfile;
	kill $signal, $pid;
	wait_for_crash($offset);
	delivers_again($node, "after SIG$signal in the middle of a handler, which goes on beside it");
	turn('linger', 'false');
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
}

# Between hand-out and run.
foreach my $signal (qw(TERM KILL QUIT))
{
	my $locker = $node->background_psql('postgres');

	($pid) = handed_out($locker);
	$offset = -s $node->logfile;
	kill $signal, $pid;
	wait_for_crash($offset) unless $signal eq 'TERM';
	$locker->query('COMMIT') if $signal eq 'TERM';
	eval { $locker->quit };
	delivers_again($node, "after SIG$signal between hand-out and run");
}

# Between run and commit.
foreach my $signal (qw(TERM KILL QUIT))
{
	turn('late', 'true');
	add_event('marked', 'T1');
	$pid = session_waiting("wait_event = 'PgSleep'");
	$offset = -s $node->logfile;
	kill $signal, $pid;
	wait_for_crash($offset) unless $signal eq 'TERM';
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
