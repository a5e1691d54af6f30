# What attached tables and handlers stand on changes: the stored names follow,
# and states are what they should be, without anybody's doing.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('objects');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'dbopt'
max_prepared_transactions = 5
autovacuum = off
));
$node->start;

# Odd defaults of the database are not the scheduler's.
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql(
	'app', q{
	ALTER DATABASE app SET default_transaction_read_only = on;
	ALTER DATABASE app SET default_transaction_isolation = 'serializable';
	SET default_transaction_read_only = off;
	CREATE ROLE worker LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	GRANT SELECT ON log TO worker;
	CREATE TABLE seen (id uuid);
	GRANT INSERT ON seen TO worker;
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql
		SET default_transaction_read_only = off
		AS 'INSERT INTO public.seen VALUES (e.id)';
	SELECT dbopt_register_handler('see', '*', 'see(log)', run_as => 'worker');
	CREATE FUNCTION state() RETURNS text LANGUAGE sql
		AS 'SELECT state FROM dbopt_source';
});

my $expected = 0;

sub run
{
	$node->safe_psql('app', "SET default_transaction_read_only = off;"
		  . " SET default_transaction_isolation = 'read committed'; $_[0]");
}

sub becomes
{
	my ($query, $result, $name) = @_;

	ok($node->poll_query_until('app', $query, $result), $name)
	  or diag $node->safe_psql('app',
		'SELECT * FROM dbopt_source; SELECT * FROM dbopt_handler');
}

sub delivers
{
	my ($table, $name) = @_;

	run("INSERT INTO $table (event_type, aggregate_type, aggregate_id, data)"
		  . " VALUES ('A', 'a', gen_random_uuid(), '{}')");
	$expected++;
	becomes('SELECT count(*) FROM public.seen', $expected, $name);
}

delivers('log', 'an event');

# ---- names ----------------------------------------------------------------

run('ALTER TABLE log RENAME TO journal');
becomes('SELECT events_name FROM dbopt_source',
	'journal', 'a renamed table has its new name');
becomes('SELECT function_name FROM dbopt_handler',
	'see(public.journal)', 'so has the type of its rows');
run('CREATE SCHEMA s; ALTER TABLE journal SET SCHEMA s');
becomes('SELECT events_schema FROM dbopt_source', 's', 'another schema');
run('ALTER SCHEMA s RENAME TO t');
becomes('SELECT events_schema FROM dbopt_source', 't', 'a renamed schema');
run('ALTER TABLE t.journal RENAME COLUMN id TO event_id');
becomes('SELECT key_column FROM dbopt_source',
	'event_id', 'a renamed key column');
run('ALTER TABLE t.journal RENAME COLUMN event_id TO id');
becomes('SELECT key_column FROM dbopt_source', 'id', 'and back');
run('ALTER FUNCTION see RENAME TO look');
becomes('SELECT function_name FROM dbopt_handler',
	'look(t.journal)', 'a renamed function');
run('ALTER FUNCTION look SET SCHEMA t');
becomes('SELECT function_schema FROM dbopt_handler',
	't', 'in another schema');
$node->safe_psql('other', 'ALTER ROLE worker RENAME TO laborer');
becomes('SELECT role_name FROM dbopt_handler',
	'laborer', 'a role renamed in another database');
run(q{BEGIN; ALTER ROLE laborer RENAME TO worker; ALTER TABLE t.journal RENAME TO log; PREPARE TRANSACTION 'p'});
run(q{COMMIT PREPARED 'p'});
becomes('SELECT role_name FROM dbopt_handler',
	'worker', 'a role renamed in a prepared transaction');
becomes('SELECT events_name FROM dbopt_source',
	'log', 'a table renamed in it');
run('BEGIN; ALTER TABLE t.log RENAME TO nothing; ROLLBACK');
delivers('t.log', 'delivery goes on');
is($node->safe_psql('app', 'SELECT events_name FROM dbopt_source'),
	'log', 'what is rolled back changes nothing');

# ---- states ---------------------------------------------------------------

# A paused database builds no index, so that somebody else can.
run('SELECT dbopt_pause(); DROP INDEX t.idx_events_log');
becomes('SELECT state()', 'building', 'without its log index a log waits');
my $build = $node->safe_psql('app',
	q{SELECT substring(reason FROM 'CREATE INDEX.*') FROM dbopt_source});
like($build, qr/CONCURRENTLY/, 'the reason says what to do');
run($build);
becomes('SELECT state()', 'ready', 'an index built concurrently is noticed');
run('SELECT dbopt_resume()');
delivers('t.log', 'delivery goes on');

run('ALTER TABLE t.log DISABLE TRIGGER dbopt_stamp');
becomes('SELECT state()', 'broken', 'a disabled trigger is noticed');
run('ALTER TABLE t.log ENABLE ALWAYS TRIGGER dbopt_stamp');
becomes('SELECT state()', 'ready', 'and that it is enabled');
run('ALTER TABLE t.log FORCE ROW LEVEL SECURITY');
becomes('SELECT state()', 'broken', 'so is forced row level security');
run('ALTER TABLE t.log NO FORCE ROW LEVEL SECURITY');
becomes('SELECT state()', 'ready', 'and its end');
delivers('t.log', 'delivery goes on');

# A change that waits for nobody, however long a table or row is locked.
my $locker = $node->background_psql('app', on_error_stop => 0);
$locker->query_safe(
	q{SET default_transaction_read_only = off; BEGIN;
	SELECT FROM dbopt_source FOR UPDATE;
	ALTER TABLE t.log RENAME TO diary});
run('ALTER FUNCTION t.look RENAME TO see');
becomes('SELECT function_name FROM dbopt_handler',
	'see(t.log)', 'a locked table does not keep the others waiting');
$locker->query_safe('COMMIT');
$locker->quit;
becomes('SELECT events_name FROM dbopt_source',
	'diary', 'it is looked at when the lock is gone');

run('DROP FUNCTION t.see');
becomes('SELECT state FROM dbopt_handler',
	'broken', 'a dropped function breaks its handler');
run('DROP TABLE t.diary');
becomes('SELECT state()', 'broken', 'a dropped table is broken');
run(q{SELECT dbopt_unregister_handler('see')});
becomes('SELECT count(*) FROM dbopt_source',
	0, 'and forgotten when no handler is left');

# ---- settings of roles ----------------------------------------------------

$node->safe_psql(
	'other', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	GRANT SELECT ON log TO worker;
	CREATE TABLE seen (setting text);
	GRANT INSERT ON seen TO worker;
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql
		AS $$INSERT INTO public.seen VALUES (current_setting('my.setting', true))$$;
	SELECT dbopt_register_handler('see', '*', 'see(log)', run_as => 'worker');
});

# The last event's handler has found this setting.
sub sees
{
	my ($setting, $name) = @_;

	ok( $node->poll_query_until(
			'other', qq{
	WITH e AS (INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('A', 'a', gen_random_uuid(), '{}'))
	SELECT EXISTS (SELECT FROM seen WHERE setting = '$setting')}),
		$name);
}

$node->safe_psql('other', q{ALTER DATABASE other SET my.setting = 'first'});
sees('first', 'a setting of the database');
$node->safe_psql('postgres', q{ALTER ROLE worker SET my.setting = 'second'});
sees('second', 'a setting of the role, made in another database');
$node->safe_psql('postgres', q{ALTER ROLE worker RESET my.setting});
$node->safe_psql('postgres', q{ALTER DATABASE other SET my.setting = 'third'});
sees('third', 'a warm session does not keep what was reset');
$node->safe_psql('postgres',
	q{ALTER ROLE worker IN DATABASE other SET my.setting = 'fourth'});
sees('fourth', 'a setting of the role in this database');

# Transactions that may not last are those of others.
SKIP:
{
	skip 'transactions have no time-out before PostgreSQL 17', 2 if $node->pg_version < 17;
	local $ENV{PGOPTIONS} = '-c transaction_timeout=0';
	$locker = $node->background_psql('other');
	$locker->query_safe('BEGIN; LOCK TABLE dbopt_handler');
	$node->safe_psql('other', q{ALTER DATABASE other SET transaction_timeout = '50 ms';
		SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'other'});
	ok( $node->poll_query_until('other', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'
			AND datname = 'other' AND wait_event_type = 'Lock' AND xact_start < clock_timestamp() - interval '500 ms')}),
		'a scheduler waits for longer than a transaction may last');
	$locker->query_safe('COMMIT');
	$locker->quit;
	$node->safe_psql('postgres', q{ALTER ROLE worker IN DATABASE other SET my.setting = 'fifth'});
	sees('fifth', '... and goes on');
}

$node->stop;
done_testing();
