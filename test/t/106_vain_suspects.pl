# A suspect of a crash that cannot be run, because its row is locked, keeps
# neither other suspects waiting nor everything else.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('vain_suspects');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
dbopt.pool_max = 4
log_statement = none
});
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE effects (type text);
	CREATE TABLE switch (is_on boolean);
	INSERT INTO switch VALUES (false);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT (SELECT is_on FROM switch) THEN RAISE 'not now'; END IF;
		INSERT INTO effects VALUES (e.event_type);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('patient', 10, '1 h', '1 h', 'none', true, 1000);
	SELECT dbopt_register_handler(lower(t), t, 'handle(log)', policy => 'patient') FROM unnest('{A,B,C,D}'::text[]) t;
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest('{A,B,C,D}'::text[]) t});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 4 FROM dbopt_retry_queue'), 'each waits for its retry');

# As after a crash: A is new to suspicion, the others have been in a second one.
# The scheduler reads that when handlers or policies change, and then all of it
# has changed.
$node->safe_psql('postgres', q{UPDATE dbopt_retry_queue
	SET suspicion = CASE event_type WHEN 'A' THEN 1 ELSE 2 END, next_retry_at = now()});
my $locks = $node->background_psql('postgres');
$locks->query_safe(q{BEGIN; SELECT FROM dbopt_retry_queue WHERE event_type IN ('A', 'B') FOR UPDATE});
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT dbopt_register_handler('e', 'E', 'handle(log)', policy => 'patient');
	UPDATE switch SET is_on = true;
	UPDATE dbopt_retry_policy SET base_delay = '10 ms', max_delay = '10 ms' WHERE name = 'patient';
	COMMIT});
ok($node->poll_query_until('postgres', q{SELECT string_agg(type, '' ORDER BY type) = 'CD' FROM effects}),
	'suspects are run while others are locked');
$node->safe_psql('postgres', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	SELECT 'E', 'a', dbopt_uuid_v7(), '{}'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM effects WHERE type = 'E'}), 'so is what is not suspect');
$locks->query_safe('COMMIT');
$locks->quit;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM dbopt_retry_queue}), 'and those when they are not locked');
is($node->safe_psql('postgres', q{SELECT string_agg(type, '' ORDER BY type) FROM effects}), 'ABCDE', 'each once');

$node->stop;
done_testing();
