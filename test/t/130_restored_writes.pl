# What is written to a restored database before dbopt_resume() is delivered
# after it; and what the owner of a table has put there gains nothing by it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $origin = PostgreSQL::Test::Cluster->new('origin');
$origin->init;
$origin->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$origin->start;
$origin->safe_psql('postgres', 'CREATE DATABASE app');

# More transactions than the new cluster will have had.
$origin->safe_psql('app', q{
	CREATE ROLE owner LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	GRANT CREATE ON SCHEMA public TO owner;
	GRANT EXECUTE ON FUNCTION dbopt_create_events, dbopt_attach_events, dbopt_register_handler TO owner;
	CREATE TABLE burnt (n int);
	DO $$
	BEGIN
		FOR n IN 1 .. 5000 LOOP
			BEGIN
				INSERT INTO burnt VALUES (n);
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
		END LOOP;
	END $$;
});
$origin->safe_psql('app', q{
	SET ROLE owner;
	CREATE TABLE parts (id int, day int, event_type text, PRIMARY KEY (id, day))
		PARTITION BY RANGE (day);
	CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
	SELECT dbopt_attach_events('parts', 'id');
	CREATE TABLE seen (id int);
	CREATE FUNCTION on_part(e parts) RETURNS void LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.seen VALUES (e.id); END';
	SELECT dbopt_register_handler('parts', '*', 'on_part(parts)', 'parts');

	CREATE TABLE who_ran (role name);
	CREATE FUNCTION tell() RETURNS int LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.who_ran VALUES (current_user); RETURN 1; END';
	CREATE FUNCTION constant(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
		'BEGIN RETURN public.tell(); END';
	CREATE INDEX ON part ((constant(1)));
}, extra_params => ['-v', 'ON_ERROR_STOP=1']);
$origin->safe_psql('app', q{INSERT INTO parts VALUES (1, 1, 'A')});
is($origin->safe_psql('app', 'SELECT dbopt_drain()'), 't', 'drained');
my $position = $origin->safe_psql('app', 'SELECT max(log_position) FROM parts');
$origin->safe_psql('app', 'SELECT dbopt_pause()');
$origin->safe_psql('app', q{INSERT INTO parts VALUES (2, 1, 'A')});

my $dump = $origin->backup_dir . '/app.dump';
mkdir $origin->backup_dir;
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $origin->connstr('app') ],
	'dumped');
$origin->stop;

my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init;
$copy->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 24");
$copy->start;
$copy->safe_psql('postgres', 'CREATE ROLE owner LOGIN');
$copy->safe_psql('postgres', 'CREATE DATABASE app');
command_ok([ 'pg_restore', '-d', $copy->connstr('app'), $dump ], 'restored');
cmp_ok(
	$copy->safe_psql('app', 'SELECT pg_current_xact_id()::text::bigint'),
	'<', $position, 'the new cluster has had fewer transactions');

# One event comes before dbopt_resume(), and one while it waits for its writer.
$copy->safe_psql('app', 'TRUNCATE who_ran');
$copy->safe_psql('app', q{SET ROLE owner; INSERT INTO parts VALUES (3, 1, 'A')});
my $writer = $copy->background_psql('app');
$writer->query_safe('SET ROLE owner');
$writer->query_safe('BEGIN');
$writer->query_safe(q{INSERT INTO part VALUES (4, 1, 'A')});
my $resume = $copy->background_psql('app');
$resume->query_until(qr/waits/, "\\echo waits\nSELECT dbopt_resume();\n");
$copy->poll_query_until('app', q{
	SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'part'::regclass})
  or die 'dbopt_resume() did not wait for the writer of a partition';
$writer->query_safe('COMMIT');
$writer->quit;
$resume->quit;
$copy->safe_psql('app', q{SET ROLE owner; INSERT INTO parts VALUES (5, 1, 'A')});

is($copy->safe_psql('app', 'SELECT dbopt_drain()'), 't', 'drained');
is($copy->safe_psql('app', 'SELECT string_agg(id::text, $$,$$ ORDER BY id) FROM seen'),
	'1,2,3,4,5', 'every event was delivered once');
is($copy->safe_psql('app', q{SELECT count(*) FROM who_ran WHERE role <> 'owner'}),
	'0', 'functions of an index have run as the table\'s owner');

# ---- positions that nobody has counted up to ------------------------------------

# What the owner of a table loads into copies, each a copy of the one before, with
# positions as no cluster has had them: whatever they are, all else is delivered,
# and so is everything in the next copy, of which nothing is said.
my $app = 'app';
my $id = 5;
my $end = '(SELECT position_offset + (1::bigint << 49) FROM dbopt_database)';
foreach my $case ([ '(1::bigint << 62) - 1', 1 ], [ '0', 0 ], [ "$end - 1", 0 ], [ '0', 0 ], [ $end, 1 ], [ '0', 0 ])
{
	my ($position, $warned) = @$case;
	my $next = "copy_$id";

	$copy->safe_psql($app, 'SELECT dbopt_pause()');
	$copy->safe_psql($app, q{SET ROLE owner; INSERT INTO parts VALUES (} . ++$id . q{, 1, 'A')});
	$copy->safe_psql('postgres', "CREATE DATABASE $next TEMPLATE $app");
	$app = $next;
	$position = $copy->safe_psql($app, "SELECT $position");
	$copy->safe_psql($app, q{SET ROLE owner; INSERT INTO parts VALUES (} . ++$id . qq{, 1, 'A', $position)});
	my ($status, undef, $stderr) = $copy->psql($app, 'SELECT dbopt_resume()');
	is($status, 0, "a copy with an event at $position is resumed");
	is($stderr =~ /WARNING:  table "parts" has events whose log_position is out of range/ ? 1 : 0, $warned, '... with a warning, if the position is out of range');
	my ($update) = $stderr =~ /HINT:  UPDATE \.\.\. (SET log_position = 0 WHERE log_position >= \d+) gives/;
	$copy->safe_psql($app, q{SET ROLE owner; INSERT INTO parts VALUES (} . ++$id . q{, 1, 'A')});
	ok($copy->poll_query_until($app, "SELECT count(*) = $id - $warned FROM seen"), '... all others are delivered');
	$copy->safe_psql($app, "SET ROLE owner; UPDATE parts $update") if $update;
	is($copy->safe_psql($app, 'SELECT dbopt_drain()'), 't', '... drained, when what it says is done');
	is($copy->safe_psql($app, q{SELECT count(*), count(DISTINCT id) FROM seen}), "$id|$id", '... every event was delivered once');
}

$copy->stop;
done_testing();
