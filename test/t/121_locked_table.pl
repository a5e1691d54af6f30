# A lock on an events table that is held for long: other tables' handlers go on,
# nobody runs in circles, and what waited is delivered when the lock has gone.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $handlers = 12;
my $node = PostgreSQL::Test::Cluster->new('locked');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
dbopt.pool_max = 4
dbopt.pool_min = 4
});
$node->start;
$node->safe_psql('postgres', qq{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('locked', false), dbopt_create_events('other', false);
	CREATE TABLE effects (handler text, id uuid);
	CREATE FUNCTION handle(locked) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO effects VALUES (\$1.event_type, \$1.id) \$\$;
	CREATE FUNCTION handle(other) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO effects VALUES ('other', \$1.id) \$\$;
	CREATE FUNCTION fail_once(e locked) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NOT EXISTS (SELECT FROM dbopt_pending_retries r WHERE r.event_id = e.id::text) THEN
			RAISE 'not at first';
		END IF;
		INSERT INTO effects VALUES ('fails', e.id);
	END \$\$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('later', 3, '1 s', '1 s', 'none', true, 1000);
	SELECT dbopt_register_handler('h' || n, 'T' || n, 'handle(locked)', events => 'locked')
		FROM generate_series(1, $handlers) n;
	SELECT dbopt_register_handler('other', '*', 'handle(other)', events => 'other');
	SELECT dbopt_register_handler('fails', 'FAILS', 'fail_once(locked)', events => 'locked', policy => 'later');
});

sub add_other
{
	my ($count) = @_;

	$node->safe_psql('postgres', "INSERT INTO other (event_type, aggregate_type, aggregate_id, data)
		SELECT 'O' || n, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $count) n");
	return;
}

# Events and retries that wait for the table.
$node->safe_psql('postgres', q{
	INSERT INTO locked (event_type, aggregate_type, aggregate_id, data)
		SELECT 'FAILS', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 20)});
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM dbopt_pending_retries', '20'), 'retries are pending');
$node->safe_psql('postgres', 'SELECT dbopt_pause()');
$node->safe_psql('postgres', qq{
	INSERT INTO locked (event_type, aggregate_type, aggregate_id, data)
		SELECT 'T' || h, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $handlers) h, generate_series(1, 50)});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE locked');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
$node->wait_for_log(qr/events of table "locked" wait for a lock on it/);
pass('the log says so');

add_other(200);
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects WHERE handler = 'other'}, '200'),
	'the events of another table are delivered');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'dbopt' AND wait_event_type = 'Lock'"),
	'0', 'while none of the workers waits for the locked one');
is($node->safe_psql('postgres', "SELECT dbopt_drain('100 ms')"), 'f', 'what waits is not forgotten');

# What all sessions together have done, and in how many rounds of the scheduler.
my $done = q{SELECT sum(jobs_done) FROM dbopt_pool_sessions()};
my $before = $node->safe_psql('postgres', $done);
add_other(1);
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects WHERE handler = 'other'}, '201'),
	'so they are later on');
$node->safe_psql('postgres', "SELECT dbopt_drain('1 s')");
cmp_ok($node->safe_psql('postgres', $done) - $before, '<=', 4, 'and nothing is tried again and again meanwhile');

$locker->query_safe('COMMIT');
$locker->quit;
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained when the lock has gone');
is( $node->safe_psql('postgres', q{
	SELECT (SELECT count(*) FROM locked WHERE id NOT IN (SELECT id FROM effects)),
		count(*) - count(DISTINCT id), (SELECT count(*) FROM dbopt_dead_letter) FROM effects}),
	'0|0|0', 'each event once');
# The same with a lock on a partition alone.
$node->safe_psql('postgres', q{
	CREATE TABLE parted (id bigint, day int, event_type text NOT NULL, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
	CREATE TABLE monday PARTITION OF parted FOR VALUES IN (1);
	CREATE TABLE tuesday PARTITION OF parted FOR VALUES IN (2);
	SELECT dbopt_attach_events('parted', 'id');
	CREATE TABLE parted_effects (id bigint);
	CREATE FUNCTION handle(parted) RETURNS void LANGUAGE sql AS $$ INSERT INTO parted_effects VALUES ($1.id) $$;
	SELECT dbopt_register_handler('parted' || n, 'T' || n, 'handle(parted)', events => 'parted') FROM generate_series(1, 6) n;
	SELECT dbopt_pause();
});
$node->safe_psql('postgres', q{
	INSERT INTO parted SELECT n, 1 + n % 2, 'T' || 1 + n % 6 FROM generate_series(1, 60) n});
$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE tuesday');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
add_other(100);
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects WHERE handler = 'other'}, '301'),
	'a locked partition holds up no other table either');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'dbopt' AND wait_event_type = 'Lock'"),
	'0', 'nor do workers wait for it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM parted_effects'), '0', 'its own table waits');
$locker->query_safe('COMMIT');
$locker->quit;
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained when the lock has gone');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM parted_effects'), '60|60', 'each event once');

# The same with the log index alone, as REINDEX INDEX and ALTER INDEX lock it, and
# with one that stands before it.
my $log_index = $node->safe_psql('postgres', q{SELECT indexrelid::regclass FROM pg_index
	WHERE indrelid = 'locked'::regclass AND pg_get_indexdef(indexrelid) ~ 'event_type.*, log_position, id'});
foreach my $index ($log_index, 'locked_pkey')
{
	my $others = 301 + 100 * ($index eq 'locked_pkey');

	$node->safe_psql('postgres', 'SELECT dbopt_pause()');
	$node->safe_psql('postgres', qq{
		INSERT INTO locked (event_type, aggregate_type, aggregate_id, data)
			SELECT 'T' || h, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $handlers) h, generate_series(1, 50)});
	my $reindexer = $node->background_psql('postgres');
	$reindexer->query_safe('BEGIN');
	$reindexer->query_safe("REINDEX INDEX $index");
	$node->safe_psql('postgres', 'SELECT dbopt_resume()');
	add_other(100);
	ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects WHERE handler = 'other'}, $others + 100),
		"$index: a locked index holds up no other table");
	is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'dbopt' AND wait_event_type = 'Lock'"),
		'0', "$index: nor do workers wait for it");
	is($node->safe_psql('postgres', q{SELECT bool_and(waiting IS NULL) FROM dbopt_backlog() WHERE handler ~ '^h'}), 't', "$index: what waits is unknown");
	$reindexer->query_safe('COMMIT');
	$reindexer->quit;
	is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', "$index: drained when the lock has gone");
	is( $node->safe_psql('postgres', q{
		SELECT (SELECT count(*) FROM locked WHERE id NOT IN (SELECT id FROM effects)), count(*) - count(DISTINCT id) FROM effects}),
		'0|0', "$index: each event once");
}

# Where events are marked, delivery and what locks out writers get in no
# deadlock, whichever came first.
$node->safe_psql('postgres', q{
	CREATE TABLE marked (id bigint PRIMARY KEY, event_type text NOT NULL, processed boolean NOT NULL DEFAULT false);
	SELECT dbopt_attach_events('marked');
	CREATE TABLE marked_effects (id bigint);
	CREATE FUNCTION handle(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO marked_effects VALUES (e.id);
		PERFORM pg_advisory_xact_lock_shared(1);
	END $$;
	SELECT dbopt_register_handler('marked', '*', 'handle(marked)', events => 'marked', chunk_size => 5);
});
my $waits = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type =};
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{INSERT INTO marked SELECT n, 'T' FROM generate_series(1, 10) n});
ok($node->poll_query_until('postgres', "SELECT ($waits 'dbopt session') > 0"), 'chunks are at work');
my ($out, $err) = ('', '');
my $reindex = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'REINDEX TABLE marked' ],
	'>', \$out, '2>', \$err);
ok($node->poll_query_until('postgres', "$waits 'client backend'", '1'), 'REINDEX TABLE waits for them');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
ok($reindex->finish, '... and is done then') or diag $err;
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained');

$locker = $node->background_psql('postgres');
$node->safe_psql('postgres', 'SELECT dbopt_pause()');
$node->safe_psql('postgres', q{
	INSERT INTO marked VALUES (11, 'T');
	INSERT INTO other (event_type, aggregate_type, aggregate_id, data) VALUES ('LAST', 'a', dbopt_uuid_v7(), '{}')});
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE marked IN SHARE MODE');
$node->safe_psql('postgres', 'SELECT dbopt_resume()');
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects JOIN other USING (id) WHERE event_type = 'LAST'}, '1'),
	'another table goes on beside a lock that keeps writers out');
is($node->safe_psql('postgres', "$waits 'dbopt session'"), '0', 'and nobody waits for that');
is($node->safe_psql('postgres', 'SELECT count(*) FROM marked_effects WHERE id = 11'), '0', 'nor runs what could not be marked');
$locker->query_safe('COMMIT');
$locker->quit;
$gate->quit;
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained when the lock has gone');
is( $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM marked WHERE processed) FROM marked_effects'),
	'11|11|11', 'each event once, and marked');

# Nor is a table waited for of which there is nothing but an index that dbopt has built.
$node->safe_psql('postgres', q{
	CREATE TABLE goods (id int);
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('goods_id', 'goods', '(id)');
	CALL dbopt_ensure_indexes('goods');
	CREATE TABLE dropped ();
});
$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE goods');
$node->safe_psql('postgres', q{
	DROP TABLE dropped;
	INSERT INTO other (event_type, aggregate_type, aggregate_id, data) VALUES ('GOODS', 'a', dbopt_uuid_v7(), '{}')});
ok( $node->poll_query_until('postgres', q{SELECT count(*) FROM effects JOIN other USING (id) WHERE event_type = 'GOODS'}, '1'),
	'delivery goes on beside a lock on a table with a declared index');
is($node->safe_psql('postgres', "$waits 'dbopt scheduler'"), '0', 'and nobody waits for that');
$locker->query_safe('DROP TABLE goods');
$locker->query_safe('COMMIT');
$locker->quit;

is(scalar(() = slurp_file($node->logfile) =~ /table "locked" wait for a lock on it/g), 1, 'the log has said so once');
unlike(slurp_file($node->logfile), qr/a job of handler .* failed|has ended|deadlock detected/, 'nobody has called that a failure');

# Who cannot read the configuration for such a lock has no memory in use for it.
$locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE dbopt_handler');
my ($status, $contexts) = $node->psql(
	'postgres', q{SET lock_timeout = '1 ms'} . q{;
	SELECT dbopt_retry_stats()} x 10 . q{;
	SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'dbopt config'}, on_error_stop => 0);
is($contexts, '0', 'a configuration that could not be read is forgotten');
$locker->quit;

$node->stop;
done_testing();
