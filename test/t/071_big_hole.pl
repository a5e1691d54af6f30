# A transaction of 300,000 events that others overtake: it ends as a hole and
# is delivered in chunks by several sessions, whose role has odd defaults, while
# the tables are rewritten several times.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %big = (log => 300_000, marked => 20_000);
my $dir = PostgreSQL::Test::Utils::tempdir;

my $node = PostgreSQL::Test::Cluster->new('big_hole');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 24
dbopt.pool_max = 6
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE odd LOGIN;
	ALTER ROLE odd SET default_transaction_isolation = 'repeatable read';
	ALTER ROLE odd SET default_transaction_read_only = on;
	ALTER ROLE odd SET default_transaction_deferrable = on;
	CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL);
	CREATE TABLE marked (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL,
		processed boolean NOT NULL DEFAULT false);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	CREATE TABLE effects (handler text, id bigint);
	GRANT SELECT ON log TO odd;
	GRANT SELECT, UPDATE ON marked TO odd;
	GRANT INSERT ON effects TO odd;
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO effects VALUES ('on_log', e.id); END $$;
	CREATE FUNCTION on_marked(e marked) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO effects VALUES ('on_marked', e.id); END $$;
	SELECT dbopt_register_handler('on_log', '*', 'on_log(log)', events => 'log',
		start_from => 'beginning', max_concurrency => 3, run_as => 'odd');
	SELECT dbopt_register_handler('on_marked', '*', 'on_marked(marked)', events => 'marked',
		max_concurrency => 3, run_as => 'odd');
});

my $insert = join '', map { "INSERT INTO $_ (event_type) VALUES ('T');\n" } keys %big;
append_to_file("$dir/small.sql", "BEGIN;\n${insert}COMMIT;\n");
append_to_file("$dir/rewrite.sql",
	"CLUSTER log USING log_pkey;\nVACUUM FULL marked;\nVACUUM FULL log;\nCLUSTER marked USING marked_pkey;\n");

my $long = $node->background_psql('postgres');
$long->query_safe('BEGIN');
$long->query_safe("INSERT INTO $_ (event_type) SELECT 'T' FROM generate_series(1, $big{$_})")
  foreach sort keys %big;
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', '50', '-f', "$dir/small.sql", 'postgres' ],
	'others write meanwhile');
drained($node, 'before the big transaction ends');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effects'),
	'400', 'what the others wrote is delivered');

my $files = q{SELECT pg_relation_filenode('log'), pg_relation_filenode('marked')};
my $before = $node->safe_psql('postgres', $files);
my $rewriter = IPC::Run::start(
	[ 'bash', '-c', "for i in 1 2 3 4; do [ -e $dir/stop ] || psql -X -q -v ON_ERROR_STOP=1 -f $dir/rewrite.sql || exit 1; done" ],
	'<', \undef, '>', '/dev/null',
	init => sub {
		$ENV{PGHOST} = $node->host;
		$ENV{PGPORT} = $node->port;
		$ENV{PGDATABASE} = 'postgres';
	});
$long->query_safe('COMMIT');
$long->quit;
drained($node, 'after the big transaction', 240);
append_to_file("$dir/stop", '');
ok($rewriter->finish, 'no rewrite has failed');
isnt($node->safe_psql('postgres', $files), $before, 'the tables were rewritten meanwhile');
each_once($node, 'on_log', 'log', 'id', 300_200);
each_once($node, 'on_marked', 'marked', 'id', 20_200);
is($node->safe_psql('postgres', 'SELECT count(*) FROM marked WHERE NOT processed'),
	'0', 'all are marked as processed');
no_job_failed($node);
$node->stop;
done_testing();
