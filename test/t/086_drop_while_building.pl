# DROP EXTENSION while an index is being built: it waits neither for the build
# nor for any time-out, and no invalid index is left, nor a session of dbopt's.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = building_server('dropped', q{dbopt.shutdown_timeout = '1h'}, 'restart_after_crash = on');
$node->restart;		# after the first start no attempt is taken back

sub install
{
	my ($database) = @_;
	sql(q{
		CREATE EXTENSION dbopt CASCADE;
		CREATE TABLE IF NOT EXISTS things AS SELECT i AS id, 'thing ' || i AS name FROM generate_series(1, 2000) i;
	}, $database);
	return;
}

# A transaction that holds a build up.
sub block
{
	my ($statement, $database) = @_;
	my $session = $node->background_psql($database // 'postgres', on_error_stop => 0);

	$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; $statement");
	return $session;
}

# Declares an index whose build something holds up.
sub start_waiting
{
	my ($name, $table, $definition, $database) = @_;

	declare($name, $table, $definition, $database);
	build_waits($name, $database);
	return;
}

sub build_waits
{
	my ($name, $database) = @_;
	wait_for(qq{SELECT status = 'building' AND reason ~ '^it waits for process'
		FROM dbopt_index_status() WHERE name = '$name'}, "$name: the build waits", $database);
	return;
}

# The limit is far below the time-out that nothing is to wait for.
sub drop_extension
{
	my ($what, $command, $database) = @_;
	my ($status, $out, $err) =
	  $node->psql($database // 'postgres', "SET statement_timeout = '2min'; " . ($command // 'DROP EXTENSION dbopt'));

	is($status, 0, "$what: the extension is dropped") or diag $err;
	return;
}

my $leavers = q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type = 'dbopt session' AND query ~ '^dropping what is left of'};
my $sessions = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dbopt session'};

# ---- a build that waits for a writer ----

install();
sql(q{
	INSERT INTO dbopt_index VALUES ('finished', 'things', '(name)');
	CALL dbopt_ensure_indexes('things', true);
	CREATE INDEX replaced ON things (id);
});
foreach my $case ([ 'missing', '(id, name)' ], [ 'replaced', '(name, id)' ])
{
	my ($name, $definition) = @$case;
	my $writer = block('LOCK TABLE things IN ROW EXCLUSIVE MODE');

	start_waiting($name, 'things', $definition);
	drop_extension($name);
	is(sql($leavers), 1, "$name: the session that was building stays, while the writer does");
	release($writer);
	wait_for($sessions, "$name: then it goes");
	is(indexes('things'), 'finished, replaced', "$name: only what was finished is left");
	install();
}

# On a partitioned table, when one part is done.
sql(q{
	CREATE TABLE whole (a int) PARTITION BY LIST (a);
	CREATE TABLE part_1 PARTITION OF whole FOR VALUES IN (1);
	CREATE TABLE part_2 PARTITION OF whole FOR VALUES IN (2);
});
my $writer = block('LOCK TABLE part_2 IN ROW EXCLUSIVE MODE');
start_waiting('whole_a', 'whole', '(a)');
drop_extension('partitions');
release($writer);
wait_for($sessions, 'partitions: the session goes');
is(indexes('part_1'), 'part_1_whole_a', 'partitions: that of the first partition was finished, and stays');
is(indexes('part_2'), '', 'partitions: the other one has gone');
install();

# ---- a log index ----

sql(q{
	CREATE TABLE log (id bigint PRIMARY KEY, event_type text);
	INSERT INTO log SELECT i, 'OLD' FROM generate_series(1, 1000) i;
});
my $reader = block('SELECT count(*) FROM things');
sql(q{SELECT dbopt_attach_events('log')});
wait_for(q{SELECT count(*) = 1 FROM pg_stat_progress_create_index
	WHERE relid = 'log'::regclass AND phase = 'waiting for old snapshots'}, 'log: its index is being built');
drop_extension('log', 'DROP EXTENSION dbopt CASCADE');
wait_for($sessions, 'log: the session goes');
is(indexes('log'), 'log_pkey', 'log: nothing of the log index is left');
sql(q{INSERT INTO log VALUES (0, 'NEW')});
release($reader);

# ---- a DROP EXTENSION that is rolled back ----

# More often than an index is tried.
install();
$reader = block('SELECT count(*) FROM log');
start_waiting('resumed', 'things', '(id, name)');
foreach my $time (1 .. 4)
{
	drop_extension("rolled back $time", 'BEGIN; DROP EXTENSION dbopt; ROLLBACK');
	build_waits('resumed');
}
release($reader);
wait_for(q{SELECT status = 'valid' AND last_error IS NULL FROM dbopt_index_status() WHERE name = 'resumed'},
	'rolled back: the build is resumed, and ends');

# The session that cleans up is killed before the transaction has ended.
$writer = block('LOCK TABLE things IN ROW EXCLUSIVE MODE');
start_waiting('killed', 'things', '(name, id)');
my $dropper = block('SET client_min_messages = warning; DROP EXTENSION dbopt');
wait_for("SELECT ($leavers) = 1", 'killed: a session is left');
kill 'KILL', sql($leavers =~ s/count\(\*\)/pid/r);
wait_for(q{SELECT status = 'valid' FROM dbopt_index_status() WHERE name = 'killed'}, 'killed: the build is resumed');
eval { $_->quit } foreach ($writer, $dropper);
is(indexes('things'), 'finished, killed, replaced, resumed', 'killed: no invalid index is left');

# ---- nobody waits for the session that cleans up ----

# It cannot.
sql('CREATE DATABASE second');
install('second');
foreach my $database ('second', 'postgres')
{
	sql(q{
		CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$
		BEGIN
			RAISE EXCEPTION 'not on a Monday';
		END $$;
		CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION forbid();
	}, $database);
	$reader = block('SELECT count(*) FROM pg_class', $database);
	start_waiting('hopeless', 'things', '(id)', $database);
	drop_extension($database, undef, $database);
	release($reader);
	wait_for("SELECT ($leavers) = 1", "$database: a session cannot clean up");
	next if $database eq 'postgres';
	sql('DROP DATABASE second');
	is(sql($leavers), 0, 'DROP DATABASE ends it');
}
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/could not be dropped/, 'and a shutdown does not wait until it gives up');
done_testing();
