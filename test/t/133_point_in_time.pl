# A base backup, recovered to a point in time: events that were committed by
# then are delivered as if the server had crashed there, the others never were.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('origin');
$node->init(has_archiving => 1, allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE seen (n int);
	CREATE TABLE switches (failing boolean);
	INSERT INTO switches VALUES (true);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('again', 1000, '1 s', '1 s', 'none', true, 1000000);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES ((e.data ->> 'n')::int);
		IF e.event_type = 'SLOW' THEN PERFORM pg_advisory_xact_lock(1); END IF;
		IF e.event_type = 'FAILS' AND (SELECT failing FROM switches) THEN RAISE 'later'; END IF;
	END $$;
	CREATE FUNCTION die(e log) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;
	SELECT dbopt_register_handler('see', '*', 'see(log)', policy => 'again'),
		dbopt_register_handler('die', 'DIES', 'die(log)');
	CREATE FUNCTION write(type text, first int, last int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
			SELECT type, 'a', dbopt_uuid_v7(), jsonb_build_object('n', n) FROM generate_series(first, last) n $$;
});
$node->safe_psql('postgres', q{SELECT write('A', 1, 10)});
is($node->safe_psql('postgres', 'SELECT dbopt_drain()'), 't', 'delivered before the backup');
$node->backup('backup');

# After the backup and before the point: delivered, failed, given up, in flight,
# waiting; and a transaction that is open then.
my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT write('A', 900, 905)});
$node->safe_psql('postgres', q{SELECT write('A', 11, 20), write('FAILS', 21, 25), write('DIES', 26, 27)});
ok($node->poll_query_until('postgres', q{
		SELECT (SELECT count(*) FROM seen) = 22 AND (SELECT count(*) FROM dbopt_retry_queue) = 5
			AND (SELECT count(*) FROM dbopt_dead_letter) = 2}), 'delivered, failed and given up after it');
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT write('SLOW', 28, 28)});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}), 'one is in flight');
$node->safe_psql('postgres', 'SELECT dbopt_pause()');
$node->safe_psql('postgres', q{SELECT write('A', 29, 40)});
$node->safe_psql('postgres', q{SELECT pg_create_restore_point('here')});

# What the recovered server never hears of.
$open->query_safe('COMMIT');
$open->quit;
$blocker->query_safe('SELECT pg_advisory_unlock(1)');
$blocker->quit;
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
$node->safe_psql('postgres', 'UPDATE switches SET failing = false');
$node->safe_psql('postgres', q{SELECT write('A', 41, 50)});
is($node->safe_psql('postgres', "SELECT dbopt_drain('100 s')"), 't', 'the origin goes on');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM seen'), '56|56', '... and delivers the rest');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->stop;

my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'backup', has_restoring => 1, standby => 0);
$copy->append_conf('postgresql.conf', q{
recovery_target_name = 'here'
recovery_target_action = 'promote'
});
$copy->start;
ok($copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), 'recovered to the point');
is( $copy->safe_psql('postgres', q{
		SELECT count(*), (SELECT count(*) FROM dbopt_retry_queue), (SELECT count(*) FROM dbopt_dead_letter),
			(SELECT count(*) FROM dbopt_chunk JOIN dbopt_cursor USING (cursor_id) WHERE event_type = 'SLOW') FROM seen}),
	'22|5|2|1', 'what was paused then is paused');
$copy->safe_psql('postgres', 'SELECT dbopt_resume()');
$copy->safe_psql('postgres', 'UPDATE switches SET failing = false');
$copy->safe_psql('postgres', q{SELECT write('A', 51, 60)});
is($copy->safe_psql('postgres', "SELECT dbopt_drain('100 s')"), 't', 'the recovered server goes on');
is( $copy->safe_psql('postgres', q{
		SELECT string_agg(n::text || CASE WHEN times > 1 THEN ' x ' || times ELSE '' END, ',' ORDER BY n)
		  FROM (SELECT n, count(*) AS times FROM seen GROUP BY 1) s}),
	join(',', 1 .. 40, 51 .. 60), 'each committed event once, and nothing else');
is($copy->safe_psql('postgres', 'SELECT count(*) FROM dbopt_dead_letter'), '2', 'dead letters stay');
$copy->stop;
done_testing();
