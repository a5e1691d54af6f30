# A dump of a database in which tables, functions and roles were dropped and others
# made under their names: where it is restored, these are no more what the handlers
# meant than where it comes from.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('namesakes');
my $dump = PostgreSQL::Test::Utils::tempdir . '/app.dump';

$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nfsync = off");
$node->start;
asking($node);
sql('CREATE DATABASE copy');

my $make_role = q{
	CREATE ROLE worker LOGIN;
	GRANT SELECT ON log TO worker;
	GRANT INSERT ON effects TO worker;
};
my $make_table = q{
	SELECT dbopt_create_events('log', false);
	CREATE FUNCTION on_log(log) RETURNS void LANGUAGE sql AS 'INSERT INTO public.effects VALUES (''on_log'')';
};
my $make_function = q{
	CREATE FUNCTION replaced(log) RETURNS void LANGUAGE sql AS 'INSERT INTO public.effects VALUES (''replaced'')';
};
my $handlers = 'SELECT name, state, reason FROM dbopt_handlers ORDER BY name';

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE effects (handler text);
	$make_table
	SELECT dbopt_register_handler('old', '*', 'on_log(log)');
	DROP TABLE log CASCADE;
	$make_table $make_role $make_function
	SELECT dbopt_register_handler('new', '*', 'on_log(log)', events => 'log'),
		dbopt_register_handler('of a role', '*', 'on_log(log)', events => 'log', run_as => 'worker'),
		dbopt_register_handler('of a function', '*', 'replaced(log)', events => 'log');
});
sql("DROP OWNED BY worker; DROP ROLE worker; $make_role DROP FUNCTION replaced; $make_function");

my $missing = 'is missing: register the handler with replace => true';
my $expected = join "\n",
  'new|ready|',
  "of a function|broken|the function public.replaced(public.log) $missing",
  "of a role|broken|the role \"worker\" $missing",
  "old|broken|the function public.on_log(public.log) $missing";
becomes($handlers, $expected, 'what is dropped is missing, whatever has its name now');

command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'dumped');
command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'restored');
sql('SELECT dbopt_resume()', 'copy');
is(sql($handlers, 'copy'), $expected, 'it is so where the dump was restored');
is( sql(q{SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE reason LIKE 'the table was dropped%') FROM dbopt_source}, 'copy'),
	'1|1', '... and the table is that of those that are its own');

sql("INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('T', 'a', gen_random_uuid(), '{}')", 'copy');
is(sql('SELECT dbopt_drain()', 'copy'), 't', 'an event is delivered');
is(sql('SELECT handler FROM effects', 'copy'), 'on_log', '... to the one that is ready');

# There is a way back.
sql(q{SELECT dbopt_register_handler('of a role', '*', 'on_log(log)', run_as => 'worker', events => 'log', replace => true),
	dbopt_register_handler('of a function', '*', 'replaced(log)', events => 'log', replace => true),
	dbopt_unregister_handler('old')}, 'copy');
is(sql('SELECT dbopt_drain()', 'copy'), 't', 'the others get it, too');
is(sql('SELECT string_agg(handler, \' \' ORDER BY handler) FROM effects', 'copy'), 'on_log on_log replaced', '... when they are registered anew');
is(sql('SELECT count(*) FROM dbopt_sources', 'copy'), '1', 'the table that is gone is forgotten');

$node->stop;
done_testing();
