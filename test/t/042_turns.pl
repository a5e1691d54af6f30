# Of a handler's work, none is kept waiting by work that never ends: new
# events by retries that are due again and again, and retries by new events.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('turns');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# The events of type BAD fail as long as the table says so, and are due again
# before a batch of them has been run.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy
		(name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('busy', 1000000, '1 ms', '1 ms', 'none', 1000000);
	CREATE TABLE failing (yes boolean);
	INSERT INTO failing VALUES (true);
	CREATE TABLE done (event_type text);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'BAD' AND (SELECT yes FROM failing) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done VALUES (e.event_type);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		policy => 'busy', max_concurrency => 1);
	CREATE FUNCTION put(type text, count int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT type, 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, count)
	$$;
	SELECT put('BAD', 500);
});
$node->poll_query_until('postgres',
	'SELECT count(*) = 500 FROM dbopt_pending_retries')
  or die 'the events did not fail';

$node->safe_psql('postgres', q{SELECT put('GOOD', 1000)});
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 1000 FROM done}),
	'new events get their turn among retries');

$node->safe_psql('postgres', 'UPDATE failing SET yes = false');
is($node->safe_psql('postgres', q{SELECT dbopt_drain('60 s')}),
	't', 'and everything is delivered in the end');
is( $node->safe_psql(
		'postgres',
		'SELECT event_type, count(*) FROM done GROUP BY 1 ORDER BY 1'),
	"BAD|500\nGOOD|1000",
	'each event once');

$node->stop;
done_testing();
