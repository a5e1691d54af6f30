# A breaker that opens and closes all the time leaves nothing behind.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('breaker');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# Two calls in five fail.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy
		(name, max_attempts, base_delay, max_delay, jitter, failure_threshold,
		 reset_timeout)
	VALUES ('shaky', 1000, '1 ms', '5 ms', 'full', 2, '2 ms');
	CREATE SEQUENCE calls;
	CREATE TABLE done (event_id uuid PRIMARY KEY);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('calls') % 5 < 2 THEN
			RAISE EXCEPTION 'connection refused';
		END IF;
		INSERT INTO done VALUES (e.id);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		policy => 'shaky', chunk_size => 1);
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'TYPE ' || n % 3, 'test', dbopt_uuid_v7(), '{}'
	FROM generate_series(1, 2000) n;
});

is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}),
	't', 'everything is delivered in the end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'),
	'2000', 'each event once');
cmp_ok(
	$node->safe_psql(
		'postgres',
		q{SELECT tripped FROM dbopt_circuit_breakers() WHERE name = 'handle'}
	),
	'>', 50,
	'the breaker has opened often');

$node->stop;
done_testing();
