# A session that is terminated after it has queued a retry of a handler without a
# slot, of which only its job's end would have told: it is tried again all the same.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('unannounced');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 1\ndbopt.max_handlers = 1");
$node->start;
asking($node);

# The commit fails with the third event, so that each has one of its own.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int PRIMARY KEY, event_type text DEFAULT 'T');
	SELECT dbopt_attach_events('log');
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE effects (handler text, id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO parent SELECT n FROM generate_series(1, 8) n WHERE n <> 3;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id = 6 AND EXISTS (SELECT FROM dbopt_pending_retries) THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
		INSERT INTO effects VALUES ('handle', e.id);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
	VALUES ('again', 1000, '100 ms', '100 ms', 'none', true);
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', policy => 'again')});
is(sql(q{SELECT stats_since IS NULL FROM dbopt_retry_stats()}), 't', 'the handler has no slot');

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql('INSERT INTO log SELECT generate_series(1, 8)');
becomes('SELECT count(*) FROM dbopt_pending_retries', '1', 'an event has failed');
becomes(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND backend_type = 'dbopt session'}, '1', '... and another one runs');
sql(q{INSERT INTO parent VALUES (3); SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
$holder->query_safe('SELECT pg_advisory_unlock(1)');
becomes('SELECT count(*) FROM effects', '8', 'both are delivered');
drained($node, 'in the end');
each_once($node, 'handle', 'log', 'id', 8);
no_job_failed($node);

$holder->quit;
$node->stop;
done_testing();
