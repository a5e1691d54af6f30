# A session outlives its scheduler, and ends in the middle of a chunk that the
# next scheduler has found locked: the chunk is run all the same.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('orphans');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

sub sql
{
	return $node->safe_psql('postgres', shift);
}

sub becomes
{
	my ($query, $name) = @_;

	return ok($node->poll_query_until('postgres', "SELECT $query"), $name);
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL);
	SELECT dbopt_attach_events('events');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION wait(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('wait', e.id);
		PERFORM pg_advisory_xact_lock_shared(1);
	END $$;
	SELECT dbopt_register_handler('wait', '*', 'wait(events)');
});

my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
sql(q{INSERT INTO events SELECT n, 'T' FROM generate_series(1, 5) n});

my $waiting = q{FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'advisory'};
becomes("EXISTS (SELECT $waiting)", 'a session is in the middle of a chunk');
my $orphan = sql("SELECT pid $waiting");
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'});
becomes("EXISTS (SELECT FROM dbopt_pool_sessions() WHERE pid <> $orphan AND state = 'idle' AND jobs_done > 0)",
	'the next scheduler has sent another one there, which has left');
is(sql("SELECT count(*) $waiting AND pid = $orphan"), '1', 'the first one is still there');

sql("SELECT pg_terminate_backend($orphan)");
becomes("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $orphan)", 'it ends');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
drained($node, 'after that', 30);
each_once($node, 'wait', 'events', 'id', 5);

$gate->quit;
$node->stop;
done_testing();
