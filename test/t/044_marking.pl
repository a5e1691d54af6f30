# Events of a mark_processed table that are read in several parts within one
# transaction: each is delivered once and marked.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('marking');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# Each in the middle of its chunk, some events fail for good: those around
# them run again one by one.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events');
	CREATE TABLE done (event_id uuid);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.aggregate_version IN (1500, 4444) THEN
			RAISE EXCEPTION 'bad' USING ERRCODE = 'data_exception';
		END IF;
		INSERT INTO done VALUES (e.id);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		max_concurrency => 1);
	INSERT INTO events
		(event_type, aggregate_type, aggregate_id, aggregate_version, data)
	SELECT 'TEST', 'test', dbopt_uuid_v7(), i, '{}'
	FROM generate_series(1, 6000) i;
});

is($node->safe_psql('postgres', q{SELECT dbopt_drain('60 s')}),
	't', 'every event is delivered or given up');

# The sessions report what they have read when their jobs end.
$node->poll_query_until('postgres',
	q{SELECT n_tup_upd >= 5998 FROM pg_stat_user_tables WHERE relname = 'events'}
) or die 'the updates were not reported';
is( $node->safe_psql(
		'postgres',
		q{SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events'}),
	'0',
	'the table, without statistics, is not read as a whole to mark them');
is( $node->safe_psql(
		'postgres', 'SELECT count(*), count(DISTINCT event_id) FROM done'),
	'5998|5998',
	'the good ones once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM events e
		WHERE processed AND processed_at IS NOT NULL AND retry_count = 0
			AND EXISTS (SELECT FROM done WHERE event_id = e.id)}),
	'5998',
	'and they are marked');
is( $node->safe_psql(
		'postgres', q{
		SELECT aggregate_version, retry_count, error_message FROM events
		WHERE NOT processed ORDER BY 1}),
	"1500|1|bad\n4444|1|bad",
	'the bad ones are not');

$node->stop;
done_testing();
