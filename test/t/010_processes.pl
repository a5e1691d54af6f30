# Launcher, schedulers and sessions: they come where they are needed, go where
# they are in the way, recover from their death, and do nothing when idle.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('processes');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
max_prepared_transactions = 5
autovacuum = off
restart_after_crash = on
dbopt.pool_min = 1
dbopt.pool_max = 4
dbopt.pool_idle_timeout = '1h'
));
$node->start;

# ---- helpers --------------------------------------------------------------

# Waits until a query gives the result expected.
sub wait_for
{
	my ($db, $query, $expected, $name) = @_;

	ok($node->poll_query_until($db, $query, $expected), $name)
	  or diag $node->safe_psql('postgres',
		"SELECT backend_type, datname, state FROM pg_stat_activity");
}

sub count_workers
{
	my ($type, $db) = @_;

	return
	  "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt $type' AND datname = '$db'";
}

sub worker_pid
{
	my ($type, $db) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt $type'"
		  . ($db ? " AND datname = '$db'" : '')
		  . ' LIMIT 1');
}

# A database with a log of events and a handler that writes down what it saw.
sub create_log
{
	my ($db) = @_;

	$node->safe_psql(
		$db, q{
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_create_events('events', mark_processed => false);
CREATE TABLE seen (id uuid, pid int);
CREATE FUNCTION see(events) RETURNS void LANGUAGE sql
	AS 'INSERT INTO seen VALUES ($1.id, pg_backend_pid())';
SELECT dbopt_register_handler('see', 'SEE.*', 'see(events)');
});
}

sub add_event
{
	my ($db, $type) = @_;

	$node->safe_psql($db,
		"INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('$type', 'a', gen_random_uuid(), '{}')"
	);
}

my $expected = 0;

# One event more, and it is delivered once.
sub delivers
{
	my ($db, $name) = @_;

	add_event($db, 'SEE.one');
	$expected++;
	wait_for($db, 'SELECT count(*) FROM seen', $expected, $name);
}

# ---- coming and going -----------------------------------------------------

wait_for('postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt launcher' AND datname IS NULL",
	1, 'the launcher is connected to no database');

$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('postgres', 'CREATE DATABASE two');
create_log('one');
wait_for('postgres', count_workers('scheduler', 'one'),
	1, 'CREATE EXTENSION brings a scheduler');
delivers('one', 'an event wakes a session');

# One that has just begun has none yet, and a database is looked at from inside.
wait_for('postgres',
	q{SELECT DISTINCT application_name FROM pg_stat_activity
		WHERE backend_type = 'dbopt session'},
	'dbopt session',
	'a session has its name');
wait_for('postgres', count_workers('scheduler', 'two'),
	0, 'no scheduler where the extension is not');

$node->safe_psql('two', 'CREATE EXTENSION dbopt CASCADE');
wait_for('postgres', count_workers('scheduler', 'two'),
	1, 'another database, another scheduler');
$node->safe_psql('two', 'DROP EXTENSION dbopt');
wait_for('postgres', count_workers('scheduler', 'two'),
	0, 'DROP EXTENSION ends it');
$node->safe_psql('two', 'CREATE EXTENSION dbopt');
wait_for('postgres', count_workers('scheduler', 'two'),
	1, 'a new extension brings it back');
$node->safe_psql('two', 'BEGIN; DROP EXTENSION dbopt; ROLLBACK');
$node->safe_psql('two', 'DROP EXTENSION dbopt; CREATE EXTENSION dbopt');
wait_for('postgres', count_workers('scheduler', 'two'),
	1, 'also when it went for a moment only');

$node->safe_psql('postgres',
	'ALTER DATABASE two IS_TEMPLATE true');
wait_for('postgres', count_workers('scheduler', 'two'),
	0, 'a template has no scheduler');
$node->safe_psql('postgres', 'ALTER DATABASE two IS_TEMPLATE false');
wait_for('postgres', count_workers('scheduler', 'two'),
	1, 'it has one when it is none any longer');

# ---- news -----------------------------------------------------------------

$node->safe_psql(
	'one', q{
BEGIN;
INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	VALUES ('SEE.prepared', 'a', gen_random_uuid(), '{}');
PREPARE TRANSACTION 'p';
});
is($node->safe_psql('one', 'SELECT count(*) FROM seen'),
	$expected, 'a prepared event is not delivered');
$node->safe_psql('one', "COMMIT PREPARED 'p'");
$expected++;
wait_for('one', 'SELECT count(*) FROM seen',
	$expected, 'COMMIT PREPARED wakes the scheduler');

$node->safe_psql(
	'one', q{
INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'SEE.' || n, 'a', gen_random_uuid(), '{}'
	FROM generate_series(1, 200) n;
});
$expected += 200;
wait_for('one', 'SELECT count(*) FROM seen',
	$expected, 'more new event types than fit into a note');

add_event('one', 'OTHER');
delivers('one', 'an event that nobody handles does no harm');

$node->safe_psql('one', "SELECT dbopt_pause_handler('see')");
add_event('one', 'SEE.one');
$node->safe_psql('one', "SELECT dbopt_resume_handler('see')");
$expected++;
wait_for('one', 'SELECT count(*) FROM seen',
	$expected, 'what came during a pause is delivered after it');

# ---- death ----------------------------------------------------------------

foreach my $type (qw(session scheduler launcher))
{
	my $pid = worker_pid($type, $type eq 'launcher' ? undef : 'one');

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE pid = $pid",
		0, "the $type ends when it is told to");
	delivers('one', "delivery goes on after the $type has ended");
}
wait_for(
	'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt launcher'",
	1,
	'there is a new launcher');
wait_for('postgres', count_workers('scheduler', 'one'),
	1, 'it has left the scheduler alone');

# The launcher adopts what it finds: the scheduler's end is still noticed.
$node->safe_psql('postgres',
	'SELECT pg_terminate_backend(' . worker_pid('scheduler', 'one') . ')');
delivers('one', 'the new launcher restarts the old scheduler');

# Until the postmaster has noticed, it accepts connections, and ends them.
my $offset = -s $node->logfile;
kill 'KILL', worker_pid('session', 'one');
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
ok( $node->poll_query_until('postgres', 'SELECT 1', 1),
	'the server is back after a session was killed');
delivers('one', 'delivery goes on after a crash');

# ---- commands that need a database for themselves -------------------------

# A handler at work must not keep them waiting.  A client may have left and its
# backend not yet, which PostgreSQL does not wait for longer than 5 s.
sub make_busy
{
	my ($db) = @_;

	add_event($db, 'WORK');
	wait_for('postgres',
		"SELECT count(*) FILTER (WHERE backend_type = 'dbopt session' AND wait_event = 'PgSleep') > 0
			AND count(*) FILTER (WHERE backend_type = 'client backend') = 0
		FROM pg_stat_activity WHERE datname = '$db'",
		't', "a handler is at work in database $db");
}

$node->safe_psql(
	'one', q{
CREATE FUNCTION work(events) RETURNS void LANGUAGE plpgsql
	AS 'BEGIN PERFORM pg_sleep(600); /* handler */ END';
SELECT dbopt_register_handler('work', 'WORK', 'work(events)');
});

$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN CREATEDB');
make_busy('one');
my $scheduler = worker_pid('scheduler', 'one');
foreach my $command (
	'DROP DATABASE one',
	'ALTER DATABASE one RENAME TO uno',
	'ALTER DATABASE one SET TABLESPACE pg_default',
	'CREATE DATABASE uno TEMPLATE one')
{
	my ($status, $out, $err) =
	  $node->psql('postgres', $command, extra_params => [ '-U', 'stranger' ]);

	isnt($status, 0, "a stranger may not: $command");
}
$node->psql('postgres', 'BEGIN; DROP DATABASE one; COMMIT');
is(worker_pid('scheduler', 'one'),
	$scheduler, 'nobody stops workers with a command that he may not run');

$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE one RENAME TO uno; ROLLBACK');
wait_for('postgres', count_workers('scheduler', 'one'),
	1, 'workers come back after a command that was rolled back');
make_busy('one');
$node->safe_psql('postgres', 'ALTER DATABASE one RENAME TO uno');
wait_for('postgres', count_workers('scheduler', 'uno'),
	1, 'ALTER DATABASE RENAME, and workers come back');
make_busy('uno');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE uno');
wait_for('postgres', count_workers('scheduler', 'uno'),
	1, 'CREATE DATABASE TEMPLATE, and workers come back');
wait_for('postgres', count_workers('scheduler', 'copy'),
	1, 'the copy has its own');
$node->safe_psql('postgres', 'DROP DATABASE copy');
make_busy('uno');
$node->safe_psql('postgres', 'DROP DATABASE uno');
is($node->safe_psql('postgres', count_workers('session', 'uno')),
	0, 'DROP DATABASE');
unlike(
	slurp_file($node->logfile),
	qr/is being accessed by other users|has been running for/,
	'nobody was in the way');

# ---- a role that cannot log in --------------------------------------------

$expected = 0;
$node->safe_psql('postgres', 'CREATE DATABASE three');
create_log('three');
$node->safe_psql(
	'three', q{
CREATE ROLE worker LOGIN;
GRANT SELECT ON events TO worker;
GRANT INSERT ON seen TO worker;
SELECT dbopt_register_handler('see', 'SEE.*', 'see(events)',
	run_as => 'worker', replace => true);
});
delivers('three', 'a session of another role');
is( $node->safe_psql('three', 'SELECT dbopt_drain()'), 't', 'drained');
is( $node->safe_psql('postgres', q{
SELECT DISTINCT usename FROM pg_stat_activity
	WHERE backend_type = 'dbopt session' AND datname = 'three'
	AND usename = 'worker'}),
	'worker', 'it is logged in as that role');

$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE three FROM PUBLIC');

# Its session may be at hand, and goes along with the scheduler.
my $warm = $node->safe_psql('postgres',
	q{SELECT string_agg(pid::text, ', ') FROM pg_stat_activity WHERE backend_type ~ '^dbopt' AND datname = 'three'});
$node->safe_psql('postgres',
	'SELECT pg_terminate_backend(' . worker_pid('scheduler', 'three') . ')');
wait_for('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($warm)",
	0, 'scheduler and sessions have gone');
add_event('three', 'SEE.one');
ok( $node->poll_query_until('three',
		q{SELECT state = 'broken' AND reason ~ 'may not connect' FROM dbopt_handlers}),
	'its handler is broken while it may not connect');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE three TO PUBLIC');
$node->safe_psql('three', q{SELECT dbopt_resume_handler('see')});
$expected++;
wait_for('three', 'SELECT count(*) FROM seen',
	$expected, 'delivered when the role may connect again');

# ---- idle -----------------------------------------------------------------

# How often the workers of database three, and the launcher, have slept.
sub switches
{
	my $result = '';

	foreach my $pid (
		split /\n/,
		$node->safe_psql(
			'postgres',
			q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'dbopt%' AND coalesce(datname, 'three') = 'three' ORDER BY pid}
		))
	{
		# It may have ended by now, which is no silence either.
		my ($count) = (eval { slurp_file("/proc/$pid/status") } // '') =~
		  /^voluntary_ctxt_switches:\s*(\d+)/m;
		$result .= "$pid " . ($count // 'gone') . "\n";
	}
	return $result;
}

SKIP:
{
	skip 'no /proc', 1 unless -e '/proc/self/status';

	# Statistics are sent once, some seconds after the last work; then there
	# is silence.  Whoever polls is never silent for two seconds.
	my $silent = 0;
	for (my $try = 0; $try < 30 && !$silent; $try++)
	{
		my $before = switches();

		$node->safe_psql('postgres', 'SELECT pg_sleep(2) -- work');
		$silent = switches() eq $before;
	}
	ok($silent, 'idle workers do not wake up');
}

$node->stop('fast');
done_testing();
