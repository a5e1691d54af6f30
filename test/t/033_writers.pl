# Writers that overlap, linger, roll back, use savepoints, prepare transactions
# and other isolation levels, against handlers in several sessions: every
# committed event has its effect once.  The effects have no unique constraint.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $transactions = 150;    # of each writer
my $big = 50_000;          # events of the transaction that others overtake

my $node = PostgreSQL::Test::Cluster->new('writers');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 32
max_prepared_transactions = 50
dbopt.pool_max = 8
});
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE odd LOGIN;
	ALTER ROLE odd SET default_transaction_isolation = 'serializable';
	ALTER ROLE odd SET default_transaction_read_only = on;
	SELECT dbopt_create_events('log', false);
	SELECT dbopt_create_events('marked', true);
	CREATE TABLE effects (handler text, id uuid);
	GRANT SELECT, UPDATE ON log, marked TO odd;
	GRANT INSERT ON effects TO odd;
	CREATE FUNCTION ones(e log) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO effects VALUES ('ones', e.id); END $$;
	CREATE FUNCTION sevens(e log) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO effects VALUES ('sevens', e.id); END $$;
	CREATE FUNCTION marks(e marked) RETURNS void LANGUAGE plpgsql
		AS $$ BEGIN INSERT INTO effects VALUES ('marks', e.id); END $$;
	SELECT dbopt_register_handler('ones', '*', 'ones(log)', events => 'log',
		chunk_size => 1, max_concurrency => 3, run_as => 'odd');
	SELECT dbopt_register_handler('sevens', '*', 'sevens(log)', events => 'log',
		chunk_size => 7, max_concurrency => 3, run_as => 'odd');
	SELECT dbopt_register_handler('marks', '*', 'marks(marked)', events => 'marked',
		chunk_size => 5000, max_concurrency => 3, run_as => 'odd');
	-- More than one slice of a chunk.
	INSERT INTO marked (event_type, aggregate_type, aggregate_id, data)
	SELECT 'T1', 'first', dbopt_uuid_v7(), '{}' FROM generate_series(1, 20000);
});

my $insert = join '', map {
	"INSERT INTO $_ (event_type, aggregate_type, aggregate_id, data)
	SELECT 'T' || (random() * 2)::int, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 1 + (random() * 9)::int);\n"
} qw(log marked);
my @scripts = (
	"BEGIN;\n${insert}SELECT pg_sleep(0.003); -- work\nCOMMIT;\n",
	"BEGIN;\n${insert}SELECT pg_sleep(0.001); -- work\nROLLBACK;\n",
	"BEGIN;\nSAVEPOINT a;\n${insert}ROLLBACK TO a;\n${insert}SAVEPOINT b;\n${insert}COMMIT;\n",
	"BEGIN ISOLATION LEVEL REPEATABLE READ;\n${insert}SELECT pg_sleep(0.002); -- work\nCOMMIT;\n",
	"BEGIN ISOLATION LEVEL SERIALIZABLE;\n${insert}COMMIT;\n",
	"\\set n random(1, 1000000000000)\nBEGIN;\n${insert}PREPARE TRANSACTION 'p:client_id-:n';\nSELECT pg_sleep(0.005); -- work\nCOMMIT PREPARED 'p:client_id-:n';\n",
	"\\set n random(1, 1000000000000)\nBEGIN;\n${insert}PREPARE TRANSACTION 'r:client_id-:n';\nROLLBACK PREPARED 'r:client_id-:n';\n",
);
my $dir = PostgreSQL::Test::Utils::tempdir;
my @files;
foreach my $i (0 .. $#scripts)
{
	push @files, '-f', "$dir/w$i";
	append_to_file("$dir/w$i", $scripts[$i]);
}

# Open before the others begin, committed when they are through.
my $long = $node->background_psql('postgres');
$long->query_safe("BEGIN; INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	SELECT 'T1', 'big', dbopt_uuid_v7(), '{}' FROM generate_series(1, $big)");

command_ok(
	[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', '8',
		'-j', '2', '--max-tries', '100', '-t', $transactions, @files, 'postgres' ],
	'the writers are through');
$long->query_safe('COMMIT');
$long->quit;

# One that has failed is rolled back by PREPARE TRANSACTION: it leaves nothing
# to the next statement of its session.
is( $node->psql('postgres', qq{
		BEGIN;
		${insert}PREPARE TRANSACTION 'whole';
		BEGIN;
		SELECT 1 / 0;
		PREPARE TRANSACTION 'failed';
		COMMIT PREPARED 'whole'}, on_error_stop => 0),
	0, 'a prepared transaction is committed after another one has failed');

drained($node, 'after the writers');
each_once($node, 'ones', 'log', 'id', 1000);
each_once($node, 'sevens', 'log', 'id', 1000);
each_once($node, 'marks', 'marked', 'id', 1000);
is($node->safe_psql('postgres', 'SELECT count(*) FROM marked WHERE NOT processed'),
	'0', 'all are marked as processed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dbopt_chunk'),
	'0', 'no chunk is left');
no_job_failed($node);

$node->stop;
done_testing();
