# Retries that become due while others are being run are run, too.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('retries');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# Two calls in three fail, and delays are about as long as a batch takes.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy
		(name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('fast', 1000, '2 ms', '20 ms', 'full', 1000000);
	CREATE SEQUENCE calls;
	CREATE TABLE done (event_id uuid PRIMARY KEY);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('calls') % 3 <> 0 THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done VALUES (e.id);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)', policy => 'fast');
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'TEST', 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, 3000);
});

is($node->safe_psql('postgres', q{SELECT dbopt_drain('60 s')}),
	't', 'everything is delivered in the end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'),
	'3000', 'and each event once');
is( $node->safe_psql(
		'postgres',
		'SELECT retrying, dead FROM dbopt_backlog()'),
	'0|0',
	'no retry and no dead letter is left');

$node->stop;
done_testing();
