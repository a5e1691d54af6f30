# The pool: its limits, its size, what is left behind in a session, and who
# waits for whom.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pool');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
max_prepared_transactions = 5
dbopt.max_workers = 4
dbopt.pool_min = 2
dbopt.pool_max = 4
dbopt.pool_idle_timeout = '100ms'
));
$node->start;

sub wait_for
{
	my ($db, $query, $expected, $name) = @_;

	ok($node->poll_query_until($db, $query, $expected), $name)
	  or diag $node->safe_psql($db, $query);
}

sub count_sessions
{
	my ($db) = @_;

	return
	  "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND datname = '$db' AND state = 'idle'";
}

sub add_events
{
	my ($db, $type, $count, $table) = @_;

	$table //= 'events';
	$node->safe_psql($db,
		"INSERT INTO $table (event_type, aggregate_type, aggregate_id, data) SELECT '$type' || n % 10, 'a', gen_random_uuid(), '{}' FROM generate_series(1, $count) n"
	);
}

sub set_reload
{
	my ($setting) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting");
	$node->reload;
}

$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql(
	'one', q{
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_create_events('events', mark_processed => false);
CREATE TABLE seen (id uuid, note text);
GRANT ALL ON seen TO PUBLIC;
GRANT SELECT ON events TO PUBLIC;
});

# ---- a handler's limit ----------------------------------------------------

# An advisory lock for the transaction tells when two are at work at a time.
$node->safe_psql(
	'one', q{
CREATE FUNCTION alone(e events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.0005); -- work
	INSERT INTO seen VALUES (e.id,
		CASE WHEN pg_try_advisory_xact_lock(1) THEN 'alone' ELSE 'together' END);
END $$;
SELECT dbopt_register_handler('alone', 'ALONE*', 'alone(events)',
	max_concurrency => 1);
});
add_events('one', 'ALONE', 1000);
add_events('one', 'ALONE', 1000);
for (1 .. 3)
{
	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'"
	);
	add_events('one', 'ALONE', 500);
	wait_for(
		'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'",
		1,
		'a new scheduler');
}
is($node->safe_psql('one', 'SELECT dbopt_drain()'), 't', 'drained');
is( $node->safe_psql(
		'one', 'SELECT note, count(*), count(DISTINCT id) FROM seen GROUP BY 1'
	),
	'alone|3500|3500',
	'max_concurrency holds, also while schedulers come and go');

# ---- size -----------------------------------------------------------------

wait_for('postgres', count_sessions('one'), 2, 'pool_min sessions stay warm');
$node->safe_psql(
	'one', q{
CREATE FUNCTION slow(e events) RETURNS void LANGUAGE plpgsql AS
	'BEGIN PERFORM pg_sleep(600); /* handler */ END';
SELECT dbopt_register_handler('slow', 'SLOW*', 'slow(events)', chunk_size => 1);
});
add_events('one', 'SLOW', 10);
wait_for(
	'postgres',
	q{SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'dbopt session' AND state = 'active'},
	4,
	'a backlog gets pool_max sessions');

# One of them may have been at something else.
wait_for('one',
	q{SELECT DISTINCT role = current_user, state, handler
		FROM dbopt_pool_sessions()},
	't|busy|slow',
	'which dbopt_pool_sessions() shows');
wait_for('one',
	q{SELECT used, total, max, utilization, health FROM dbopt_pool_stats()},
	'4|4|4|100|critical',
	'and dbopt_pool_stats()');
$node->safe_psql('one', q{SELECT dbopt_pause_handler('slow')});
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt session'"
);
wait_for('postgres', count_sessions('one'), 2, 'and then pool_min again');
set_reload('dbopt.pool_min = 0');
wait_for('postgres', count_sessions('one'), 0,
	'none is kept with pool_min = 0');
set_reload('dbopt.pool_min = 1');
wait_for('postgres', count_sessions('one'), 1, 'one with pool_min = 1');

# Four slots in the cluster, one database has them all at hand.
set_reload('dbopt.pool_min = 4');
wait_for('postgres', count_sessions('one'), 4, 'four with pool_min = 4');
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql(
	'two', q{
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_create_events('events', mark_processed => false);
CREATE TABLE seen (id uuid);
CREATE FUNCTION see(events) RETURNS void LANGUAGE sql
	AS 'INSERT INTO seen VALUES ($1.id)';
SELECT dbopt_register_handler('see', 'SEE*', 'see(events)');
});
add_events('two', 'SEE', 20);
wait_for('two', 'SELECT count(*) FROM seen',
	20, 'an idle session makes room for another database');

# ---- what a job leaves behind ---------------------------------------------

set_reload('dbopt.pool_min = 1');
set_reload("dbopt.pool_idle_timeout = '1h'");
$node->safe_psql(
	'one', q{
CREATE ROLE tidy LOGIN;
ALTER ROLE tidy SET work_mem = '5MB';
GRANT CREATE, TEMPORARY ON DATABASE one TO tidy;
CREATE FUNCTION litter(e events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen VALUES (e.id, concat_ws(' ', pg_backend_pid(),
		current_setting('work_mem'),
		nullif(current_setting('my.thing', true), ''),
		current_setting('search_path'),
		(SELECT count(*) FROM pg_prepared_statements),
		(SELECT count(*) FROM pg_cursors WHERE is_holdable),
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
			AND objid = 7 AND pid = pg_backend_pid()),
		(SELECT count(*) FROM pg_class
			WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r')));
	PERFORM set_config('work_mem', '7MB', false);
	PERFORM set_config('my.thing', 'left', false);
	PERFORM set_config('search_path', 'pg_catalog, public', false);
	EXECUTE 'PREPARE p AS SELECT 1';
	EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1';
	PERFORM pg_advisory_lock(7);
	CREATE TEMP TABLE rubbish ();
END $$;
SELECT dbopt_register_handler('litter', 'LITTER*', 'litter(events)',
	run_as => 'tidy');
TRUNCATE seen;
});

# There may be more than one session of the role, and four at most.
my $repeated = q{SELECT count(*) > count(DISTINCT split_part(note, ' ', 1)) FROM seen};
for (1 .. 5)
{
	add_events('one', 'LITTER', 1);
	is($node->safe_psql('one', 'SELECT dbopt_drain()'), 't', 'drained');
	last if $node->safe_psql('one', $repeated) eq 't';
}
is($node->safe_psql('one', $repeated), 't', 'a session has had two jobs');
is( $node->safe_psql('one', q{SELECT DISTINCT substr(note, strpos(note, ' ')) FROM seen}),
	' 5MB "$user", public 0 0 0 0',
	'a session gives nothing of one job to the next');

# ---- a locked table -------------------------------------------------------

$node->safe_psql(
	'one', q{
SELECT dbopt_create_events('other', mark_processed => false);
CREATE FUNCTION see(other) RETURNS void LANGUAGE sql
	AS $$INSERT INTO public.seen VALUES ($1.id, 'other')$$;
SELECT dbopt_register_handler('other', 'OTHER*', 'see(other)',
	events => 'other');
});
my $locker = $node->background_psql('one');
$locker->query_safe('BEGIN; LOCK events');
$node->safe_psql('one', q{SELECT dbopt_pause_handler('alone')});
add_events('one', 'OTHER', 10, 'other');
wait_for('one', q{SELECT count(*) FROM seen WHERE note = 'other'},
	10, 'a locked events table does not hold up another one');
$locker->quit;
$node->safe_psql('one', q{SELECT dbopt_resume_handler('alone')});

# ---- prepared transactions ------------------------------------------------

sub prepare
{
	my ($name) = @_;

	$node->safe_psql(
		'one', qq{
BEGIN;
INSERT INTO other (event_type, aggregate_type, aggregate_id, data)
	VALUES ('OTHER.$name', 'a', gen_random_uuid(), '{}');
PREPARE TRANSACTION '$name';
});
}

prepare('a');
prepare('b');
prepare('c');
$node->safe_psql('one', "COMMIT PREPARED 'a'");
wait_for('one', q{SELECT count(*) FROM seen WHERE note = 'other'},
	11, 'the one committed is delivered');
$node->safe_psql('one', "ROLLBACK PREPARED 'b'");
$node->restart;
wait_for(
	'postgres',
	"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'",
	2,
	'restarted');
is( $node->safe_psql('one', 'SELECT dbopt_drain()'), 't', 'drained');
$node->safe_psql('one', "COMMIT PREPARED 'c'");
wait_for('one', q{SELECT count(*) FROM seen WHERE note = 'other'},
	12, 'also one that was prepared before a restart');

$node->stop('fast');
done_testing();
