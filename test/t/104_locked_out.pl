# After a crash: a database whose scheduler is kept from its work by a lock, which
# a prepared transaction holds on, does not keep the others waiting for ever.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('locked_out');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
max_worker_processes = 24
max_prepared_transactions = 2
});
$node->start;

foreach my $db (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, q{
		CREATE EXTENSION dbopt CASCADE;
		SELECT dbopt_create_events('log', false);
		CREATE TABLE effects (id uuid);
		CREATE FUNCTION go(e log) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.effects VALUES (e.id); END $$;
		SELECT dbopt_register_handler('go', 'GO', 'go(log)')});
}

sub add_event
{
	my ($db) = @_;

	$node->safe_psql($db, "INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('GO', 'a', dbopt_uuid_v7(), '{}')");
	return;
}

# What is locked is read when the suspects are known.
$node->safe_psql('one', q{BEGIN; LOCK TABLE dbopt_index_state; PREPARE TRANSACTION 'lock'});
my $offset = -s $node->logfile;
kill 'KILL', $node->safe_psql('postgres', "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'");
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
$node->poll_query_until('postgres', 'SELECT true');
ok( $node->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'one' AND wait_event_type = 'Lock'}),
	'a scheduler waits for a lock');
add_event($_) foreach qw(one two);
ok($node->poll_query_until('two', 'SELECT count(*) = 1 FROM effects'), 'another database goes on');
is($node->safe_psql('one', 'SELECT count(*) FROM effects'), 0, '... while that one waits');
$node->safe_psql('one', q{COMMIT PREPARED 'lock'});
is($node->safe_psql($_, "SELECT dbopt_drain('60 s')"), 't', "$_: drained") foreach qw(one two);
is($node->safe_psql('one', 'SELECT count(*) FROM effects'), 1, 'nothing is lost');

$node->stop;
done_testing();
