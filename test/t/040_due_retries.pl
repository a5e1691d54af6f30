# Retries that become due while others are being run are run, too.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('retries');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_idle_timeout = '1h'");
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

is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}),
	't', 'everything is delivered in the end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'),
	'3000', 'and each event once');
is( $node->safe_psql(
		'postgres',
		'SELECT retrying, dead FROM dbopt_backlog()'),
	'0|0',
	'no retry and no dead letter is left');

# One whose row a stranger has locked holds up no other, and is tried when the
# lock has gone, without anybody's help; nobody waits for it at work.
$node->safe_psql('postgres', q{
	CREATE TABLE switch AS SELECT true AS down;
	DELETE FROM done;
	CREATE OR REPLACE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT down FROM switch) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done VALUES (e.id);
	END $$;
	UPDATE dbopt_retry_policy SET base_delay = '3 s', max_delay = '3 s', jitter = 'none' WHERE name = 'fast';
	INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'TEST', 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, 10)});
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM dbopt_retry_queue', '10'), 'ten retries wait');
my $stranger = $node->background_psql('postgres');
$stranger->query_safe('BEGIN');

# It may just be run again, and then be a row that has gone.
until ($stranger->query_safe(q{SELECT 'locked' FROM dbopt_retry_queue ORDER BY next_retry_at, event_key LIMIT 1 FOR UPDATE}) =~ /locked/)
{
	note('once more');
}
$node->safe_psql('postgres', 'UPDATE switch SET down = false');
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM done', '9'), 'one that is locked holds up no other');
my $jobs = q{SELECT sum(jobs_done) FROM dbopt_pool_sessions()};
my $before = $node->safe_psql('postgres', $jobs);
ok($node->poll_query_until('postgres', "SELECT ($jobs) > $before + 1"), 'it is looked at again');
cmp_ok($node->safe_psql('postgres', $jobs) - $before, '<', 50, '... not all the time');
$stranger->query_safe('ROLLBACK');
$stranger->quit;
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM done', '10'), 'when the lock has gone it is tried');

$node->stop;
done_testing();
