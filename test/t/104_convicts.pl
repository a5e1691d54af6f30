# What has crashed the server is tried again when nothing else runs.  Handlers
# that take long hold that up, but only by what they are at: they get no more
# until it has run, while all others go on, and who was done before them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('convicts');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
dbopt.pool_max = 5
log_statement = none
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE other');

# In either database a handler that waits until it is let go; and in one of
# them an event that is poison, and a handler that does well.
foreach my $db (qw(postgres other))
{
	$node->safe_psql($db, q{
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('log', false);
		CREATE TABLE effects (id uuid);
		CREATE FUNCTION long(e log) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			RAISE LOG 'a long one begins';
			INSERT INTO effects VALUES (e.id);
			PERFORM pg_advisory_xact_lock(1);
		END $$;
		CREATE FUNCTION go(e log) RETURNS void LANGUAGE plpgsql
			AS $$ BEGIN INSERT INTO effects VALUES (e.id); END $$;
		CREATE FUNCTION die(e log) RETURNS void LANGUAGE plpgsql
			AS $$ BEGIN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; PERFORM pg_sleep(60); /* handler */ END $$;
		INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
		VALUES ('thrice', 3, '4 s', '4 s', 'none', true);
		SELECT dbopt_register_handler('long', 'LONG', 'long(log)', chunk_size => 1, max_concurrency => 2);
		CREATE FUNCTION brief(e log) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			RAISE LOG 'a brief one begins';
			INSERT INTO effects VALUES (e.id);
			PERFORM pg_advisory_xact_lock(2);
		END $$;
		SELECT dbopt_register_handler('brief', 'BRIEF', 'brief(log)');
		SELECT dbopt_register_handler('go', 'GO', 'go(log)');
		SELECT dbopt_register_handler('die', 'DIE', 'die(log)', policy => 'thrice');
	});
}

sub add_events
{
	my ($db, $type, $count) = @_;

	write_poison($node, $db, "INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		SELECT '$type', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $count)");
	return;
}

sub undelivered
{
	my ($type) = @_;

	return "SELECT count(*) FROM log e WHERE event_type = '$type' AND NOT EXISTS (SELECT FROM effects x WHERE x.id = e.id)";
}

# Two crashes: among others, and as the only one of its group.
add_events('postgres', 'DIE', 1);
$node->wait_for_log(qr/(?:terminated by signal 9.*){2}database system is ready/s);
$node->poll_query_until('postgres', "SELECT true FROM dbopt_pause_handler('die')");

# Before its third attempt, long ones begin.  Those in the other database wait
# for the same lock there.
my @lockers = map { $node->background_psql($_) } qw(postgres other);
$_->query_safe('SELECT pg_advisory_lock(1)') foreach @lockers;
my $locker_pids = join ', ', map { $_->query_safe('SELECT pg_backend_pid()') } @lockers;
my $brief_locker = $node->background_psql('other');
$brief_locker->query_safe('SELECT pg_advisory_lock(2)');
my $offset = -s $node->logfile;
add_events($_, 'LONG', 4) foreach qw(postgres other);
add_events('other', 'BRIEF', 1);
$node->wait_for_log(qr/(?:a long one begins.*){4}/s, $offset);
$node->wait_for_log(qr/a brief one begins/, $offset);
is($node->safe_psql('postgres', 'SELECT suspicion FROM dbopt_chunk WHERE suspicion > 0'), '2', 'an event is to be tried alone');

$offset = -s $node->logfile;
$node->safe_psql('postgres', "SELECT dbopt_resume_handler('die')");
$node->wait_for_log(qr/(?:handler "long" gets no more events until a suspect of a crash has run.*){2}/s, $offset);
$node->wait_for_log(qr/handler "brief" gets no more events/, $offset);
pass('handlers that do not give way for it are told apart');
foreach my $db (qw(postgres other))
{
	add_events($db, 'GO', 10);
	ok($node->poll_query_until($db, undelivered('GO'), '0'), "$db: others go on meanwhile");
	is($node->safe_psql($db, "SELECT dbopt_drain('100 ms')"), 'f', "$db: what is held back is not forgotten");
}

# One of those that held it up is done long before the others.
$brief_locker->query_safe('SELECT pg_advisory_unlock(2)');
add_events('other', 'BRIEF', 3);
ok($node->poll_query_until('other', undelivered('BRIEF'), '0'), 'one that is done waits for no other');
eval { $brief_locker->quit };

# The long ones end, all at once, and more of them wait.
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[$locker_pids]) pid");
$node->wait_for_log(qr/terminated by signal 9/, $offset);
my ($before) = slurp_file($node->logfile, $offset) =~ /^(.*?)terminated by signal 9/s;
unlike($before, qr/a long one begins/, 'they get no more before it has run');
eval { $_->quit } foreach @lockers;

foreach my $db (qw(postgres other))
{
	ok($node->poll_query_until($db, undelivered('LONG'), '0'), "$db: then they do");
	is($node->safe_psql($db, "SELECT dbopt_drain('60 s')"), 't', "$db: drained");
	is( $node->safe_psql($db, q{SELECT count(*), count(DISTINCT id) FROM effects}),
		$db eq 'other' ? '18|18' : '14|14', "$db: each event had its effect once");
}
is( $node->safe_psql('postgres', 'SELECT handler, attempts, error_code FROM dbopt_dead_letters'),
	'die|3|57P02', 'and the event is given up');
is($node->safe_psql('other', 'SELECT count(*) FROM dbopt_dead_letters'), '0', 'but no other');
$node->stop;
done_testing();
