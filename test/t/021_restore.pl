# A database that was dumped and restored, or copied, starts paused, and is
# this one's after dbopt_resume().
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

$origin->safe_psql('app', q{
	CREATE ROLE worker LOGIN;
	CREATE ROLE gone LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_pause();
	GRANT SELECT ON log TO worker, gone;
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION "on All"(e log[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	SELECT dbopt_register_handler('one', 'A', 'on_log(log)', start_from => 'beginning', run_as => 'worker');
	SELECT dbopt_register_handler('all', '*', '"on All"(log[])', start_from => 'now', run_as => 'worker');
	SELECT dbopt_register_handler('nobody', 'B', 'on_log(log)', run_as => 'gone');
});

# Positions far ahead of a new cluster's transactions.
$origin->safe_psql('app', q{
	UPDATE dbopt_database SET position_offset = 1000000;
});
$origin->restart;
$origin->safe_psql('app', q{
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('A', 'a', '00000000-0000-0000-0000-000000000001', '{}');
});
my $position = $origin->safe_psql('app', 'SELECT max(log_position) FROM log');
cmp_ok($position, '>', 1000000, 'position includes the offset');

my $dump = $origin->backup_dir . '/app.dump';
mkdir $origin->backup_dir;
command_ok(
	[ 'pg_dump', '-Fc', '-f', $dump, $origin->connstr('app') ],
	'dumped');

my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init;
$copy->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$copy->start;
$copy->safe_psql('postgres', 'CREATE DATABASE app');
$copy->safe_psql('postgres', 'CREATE ROLE worker LOGIN');
command_fails(
	[ 'pg_restore', '-d', $copy->connstr('app'), $dump ],
	'restored, but for the rights of a role that is missing');

# One statement of the archive grants to both roles, and has failed.
$copy->safe_psql('app', 'GRANT SELECT ON log TO worker');

my ($status, $out, $err) = $copy->psql('app',
	"SELECT dbopt_register_handler('x', '*', 'on_log(log)')");
like($err, qr/this database was restored or copied/,
	'nothing is registered before it is resumed');
like($err, qr/dbopt_resume\(\)/, 'the hint names the call');

$copy->safe_psql('app', 'SELECT dbopt_resume()');
$copy->safe_psql('app', 'SELECT dbopt_pause()');
is( $copy->safe_psql('app', q{
		SELECT s.events_oid = 'log'::regclass, s.state, d.position_offset > 0
		  FROM dbopt_source s, dbopt_database d}),
	't|ready|t',
	'table found, offset raised');
is( $copy->safe_psql('app', q{
		SELECT name, state, reason,
			function_oid IN ('on_log'::regproc, '"on All"'::regproc)
		  FROM dbopt_handler ORDER BY name}),
	join("\n",
		'all|ready||t',
		'nobody|broken|the role "gone" is missing: register the handler with replace => true|t',
		'one|ready||t'),
	'functions and roles found, or said to be missing');
$copy->safe_psql('app', q{
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('A', 'a', '00000000-0000-0000-0000-000000000002', '{}')});
cmp_ok($copy->safe_psql('app', 'SELECT max(log_position) FROM log'),
	'>', $position, 'a new event comes behind all restored ones');
$copy->safe_psql('app',
	q{SELECT dbopt_register_handler('nobody', 'B', 'on_log(log)', replace => true)});
is( $copy->safe_psql('app',
		q{SELECT state, reason IS NULL FROM dbopt_handlers WHERE name = 'nobody'}),
	'ready|t',
	'registered again');

$copy->stop;
$origin->stop;
done_testing();
