# Databases are renamed, moved, copied and dropped, and the extension with
# them, while sessions are in the middle of their jobs: each statement works at
# once, or fails with what to do, and every event has its effect once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('databases');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
allow_in_place_tablespaces = on
dbopt.pool_max = 4
dbopt.chunk_size = 20
dbopt.shutdown_timeout = '10min'	# which nothing here waits for
fsync = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE one');

sub becomes
{
	my ($database, $query, $result, $name) = @_;

	ok($node->poll_query_until($database, $query, $result), $name)
	  or diag $node->safe_psql($database, 'SELECT * FROM dbopt_source; SELECT * FROM dbopt_handler; SELECT * FROM dbopt_backlog()');
	return;
}

$node->safe_psql('one', q{
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('again', 1000, '20 ms', '50 ms', 'none', true, 1000000);
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL);
	CREATE TABLE marked (id int PRIMARY KEY, event_type text NOT NULL, processed boolean DEFAULT false);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	CREATE TABLE effects (handler text, id int);
	CREATE TABLE gate (is_closed boolean);
	INSERT INTO gate VALUES (false);
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects VALUES ('log', e.id);
		PERFORM pg_sleep(0.005); -- work
		IF random() < 0.05 THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION on_marked(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects VALUES ('marked', e.id);
		PERFORM pg_sleep(0.005); -- work
		WHILE (SELECT is_closed FROM public.gate) LOOP
			PERFORM pg_sleep(0.005); -- work
		END LOOP;
	END $$;
	SELECT dbopt_register_handler('log', '*', 'on_log(log)', 'log', policy => 'again'),
		dbopt_register_handler('marked', '*', 'on_marked(marked)', 'marked', policy => 'again');
});

my $id = 1;

# Many events, of which some are being run and most are waiting.
sub load
{
	my ($database) = @_;
	my $last = $id + 199;

	foreach my $table (qw(log marked))
	{
		$node->safe_psql($database, "INSERT INTO $table (id, event_type) SELECT n, 'T' || n % 4 FROM generate_series($id, $last) n");
	}
	becomes($database, "SELECT count(DISTINCT handler) FROM effects WHERE id >= $id", '2', "$database: sessions are at work");
	$id = $last + 1;
	return;
}

# By a client of another database, at the first attempt; this test's own clients
# have left.
sub works
{
	my ($statement) = @_;

	$node->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname <> 'postgres'})
	  or die 'clients have not left';
	my ($status, $out, $error) = $node->psql('postgres', "SET statement_timeout = '170 s';\n$statement");

	is("$status $error", '0 ', $statement);
	return;
}

sub once
{
	my ($database, $name) = @_;

	is($node->safe_psql($database, q{SELECT dbopt_drain('60 s')}), 't', "$name: everything is delivered");
	foreach my $table (qw(log marked))
	{
		is( $node->safe_psql($database, qq{SELECT count(*) FILTER (WHERE x.id IS NULL), count(*) FILTER (WHERE x.n > 1)
			FROM $table LEFT JOIN (SELECT id, count(*) AS n FROM effects WHERE handler = '$table' GROUP BY id) x USING (id)}),
			'0|0', "$name: $table has had each event once");
	}
	return;
}

# ---- databases -----------------------------------------------------------------------

works(q{CREATE TABLESPACE place LOCATION ''});
load('one');
works('ALTER DATABASE one RENAME TO uno');
load('uno');
works('ALTER DATABASE uno SET TABLESPACE place');
load('uno');
$node->safe_psql('uno', "UPDATE gate SET is_closed = true; INSERT INTO marked (id, event_type) VALUES ($id, 'T1')");
$id++;
works('CREATE DATABASE copy TEMPLATE uno');
$node->safe_psql('uno', 'UPDATE gate SET is_closed = false');
once('uno', 'renamed, moved, copied');
becomes('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'dbopt scheduler'}, '1', 'the copy has workers of its own');
my $waiting = $node->safe_psql('copy', 'SELECT count(*) FROM marked WHERE NOT processed');
cmp_ok($waiting, '>', 0, 'events were waiting when it was made');
is($node->safe_psql('copy', q{SELECT count(*) FROM marked WHERE NOT processed}), $waiting, '... and wait in it');
$node->safe_psql('copy', 'UPDATE gate SET is_closed = false; SELECT dbopt_resume()');
once('copy', 'the copy, resumed');
load('copy');
works('ALTER DATABASE uno SET TABLESPACE pg_default');
works('DROP DATABASE copy');
becomes('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' OR (backend_type = 'dbopt session' AND datname IS NULL)}, '0', '... and no worker is left of it');
once('uno', 'the original, afterwards');

# ---- event triggers that fail -----------------------------------------------------------

$node->safe_psql('uno', q{
	CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on a Monday'; END $$;
	CREATE EVENT TRIGGER forbid_drop ON sql_drop EXECUTE FUNCTION forbid();
	CREATE EVENT TRIGGER forbid_trigger ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION forbid();
	CREATE TABLE third (id int PRIMARY KEY, event_type text)});
load('uno');
foreach my $statement ('DROP EXTENSION dbopt CASCADE', q{SELECT dbopt_attach_events('third')}, q{SELECT dbopt_create_events('fourth')})
{
	my ($status, $out, $error) = $node->psql('uno', $statement);

	like($error, qr/not on a Monday/, "an event trigger forbids: $statement");
}
load('uno');
is($node->safe_psql('uno', q{SELECT string_agg(events_name, ' ' ORDER BY events_name) FROM dbopt_source}), 'log marked', '... which leaves nothing behind');
is($node->safe_psql('uno', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'third'::regclass AND attname = 'log_position'}), '0', '... not even a column');
once('uno', 'delivery goes on');
$node->safe_psql('uno', 'DROP EVENT TRIGGER forbid_drop; DROP EVENT TRIGGER forbid_trigger');

# ---- the extension, before and after its tables are detached --------------------------------

load('uno');
my ($status, $out, $error) = $node->psql('uno', 'DROP EXTENSION dbopt');
like($error, qr/cannot drop extension dbopt because other objects depend on it.*HINT:  Use DROP \.\.\. CASCADE/s, 'tables are attached: DROP EXTENSION says so');
load('uno');
($status, $out, $error) = $node->psql('uno', q{SELECT dbopt_detach_events('log')});
like($error, qr/table "log" still has handlers.*dbopt_unregister_handler/s, 'handlers are registered: detaching says so');
once('uno', 'both are refused, and change nothing');
load('uno');
$node->safe_psql('uno', q{SET lock_timeout = '170 s';
	SELECT dbopt_unregister_handler('log', discard => true), dbopt_unregister_handler('marked', discard => true);
	SELECT dbopt_detach_events('log'), dbopt_detach_events('marked');
	DROP EXTENSION dbopt});
pass('handlers in the middle of their work are unregistered, tables detached, the extension dropped');
becomes('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'uno'}, '0', 'no worker is left');
$node->safe_psql('uno', qq{INSERT INTO log (id, event_type) VALUES (-1, 'T1'); INSERT INTO marked (id, event_type) VALUES (-1, 'T1');
	DELETE FROM effects; DELETE FROM log WHERE id > 0; DELETE FROM marked WHERE id > 0;
	CREATE EXTENSION dbopt;
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	SELECT dbopt_register_handler('log', '*', 'on_log(log)', 'log', start_from => 'beginning'),
		dbopt_register_handler('marked', '*', 'on_marked(marked)', 'marked')});
load('uno');
once('uno', 'installed and attached anew');
is($node->safe_psql('uno', q{SELECT count(*) FROM effects WHERE id = -1}), '2', '... with what was written meanwhile');
works('DROP DATABASE uno');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|is being accessed by other users/, 'nothing was in the way');

$node->stop;
done_testing();
