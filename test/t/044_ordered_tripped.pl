# A breaker that opens between two retries of one aggregate: the second one,
# which was to follow the first in its transaction, does not wait for ever.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('tripped');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int PRIMARY KEY, event_type text DEFAULT 'T', aggregate_type text DEFAULT 'a',
		aggregate_id int DEFAULT 1, aggregate_version int);
	CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT EXISTS (SELECT FROM dbopt_pending_retries WHERE event_id = e.id::text) THEN RAISE lock_not_available; END IF;
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO effects VALUES ('handle', e.id);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('again', 1000, '10 ms', '10 ms', 'none', 1000000);
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', policy => 'again', ordered => true, max_concurrency => 1)});

my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql('INSERT INTO log (id, aggregate_version) SELECT n, n FROM generate_series(1, 3) n');
becomes(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND backend_type = 'dbopt session'}, '1', 'a retry runs');
becomes('SELECT count(*) FROM dbopt_pending_retries', '3', '... with others behind it');
sql(q{SELECT dbopt_trip_circuit_breaker('handle')});
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
becomes('SELECT count(*) FROM effects', '1', 'it succeeds, and the breaker has opened');
becomes('SELECT count(*) FROM dbopt_ordered', '2', '... so that the others wait');
sql(q{SELECT dbopt_reset_circuit_breaker('handle')});
drained($node, 'the breaker is closed again');
each_once($node, 'handle', 'log', 'id', 3);
is(sql('SELECT string_agg(id::text, NULL ORDER BY ctid) FROM effects'), '123', '... in their order');
no_job_failed($node);

$node->stop;
done_testing();
