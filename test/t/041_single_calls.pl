# A handler with a chunk_size of 1 is called once for each attempt, and shares
# its transaction with no other event's attempt.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('single');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# Every event fails once.  What the calls leave in the sequence and the log
# of transactions stays when they fail.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy
		(name, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('once', '200 ms', '200 ms', 'none', 1000000);
	CREATE SEQUENCE calls;
	CREATE TABLE done (event_id uuid, xid xid8);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('calls');
		IF NOT EXISTS (SELECT FROM dbopt_pending_retries
			WHERE event_id = e.id::text) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done VALUES (e.id, pg_current_xact_id());
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		policy => 'once', chunk_size => 1, max_concurrency => 1);
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'TEST', 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, 20);
});

is($node->safe_psql('postgres', q{SELECT dbopt_drain('60 s')}),
	't', 'every event is delivered');
is( $node->safe_psql('postgres', 'SELECT last_value FROM calls'),
	'40', 'in two calls each');
is( $node->safe_psql(
		'postgres',
		'SELECT attempts, failures, retries FROM dbopt_retry_stats()'),
	'40|20|20',
	'and they are counted so');
is( $node->safe_psql(
		'postgres', 'SELECT count(*), count(DISTINCT xid) FROM done'),
	'20|20',
	'retries share no transaction');

$node->stop;
done_testing();
