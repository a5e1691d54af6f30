# Keys of every type, in tables of both kinds, partitioned ones too, against
# writers of all sorts: each event is delivered once, in chunks of any size.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('key_types');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 32
max_prepared_transactions = 50
dbopt.pool_max = 6
});
$node->start;

# A column whose order is not that of its bytes, where there is such a thing.
my $collation = $node->safe_psql('postgres',
	q{SELECT CASE WHEN EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN 'und-x-icu' ELSE 'C' END});

# Each table's key, and the rest of its columns.
my %keys = (
	by_uuid => 'id uuid DEFAULT gen_random_uuid() PRIMARY KEY',
	by_bigint => 'id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY',
	by_int => 'id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY',
	by_text => qq{id text COLLATE "$collation" DEFAULT
		(ARRAY['a', 'B', 'ä', 'Ω', '漢字', '😀', ' '])[1 + random() * 6] || nextval('numbers') PRIMARY KEY},
	in_parts => q{id bigint DEFAULT nextval('numbers'), PRIMARY KEY (id, part)});
my @chunk_sizes = (1, 7, 500);
my @roles = qw(odd1 odd2);
my @tables;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE SEQUENCE numbers;
	CREATE TABLE effects (handler text, id text);
	CREATE ROLE odd1 LOGIN;
	ALTER ROLE odd1 SET default_transaction_isolation = 'serializable';
	ALTER ROLE odd1 SET default_transaction_deferrable = on;
	ALTER ROLE odd1 SET default_transaction_read_only = on;
	CREATE ROLE odd2 LOGIN;
	ALTER ROLE odd2 SET default_transaction_isolation = 'repeatable read';
	ALTER ROLE odd2 SET default_transaction_read_only = on;
	GRANT INSERT ON effects TO odd1, odd2;
});
foreach my $kind ('log', 'marked')
{
	foreach my $name (sort keys %keys)
	{
		my $table = "${kind}_$name";
		my $role = $roles[ @tables % @roles ];
		my $chunk_size = $chunk_sizes[ @tables % @chunk_sizes ];
		my $columns = 'event_type text NOT NULL, part int NOT NULL DEFAULT random() * 2'
		  . ($kind eq 'marked' ? ', processed boolean NOT NULL DEFAULT false, ' : ', ')
		  . $keys{$name};
		my $parts = $name eq 'in_parts';

		push @tables, $table;
		$node->safe_psql('postgres',
			"CREATE TABLE $table ($columns) " . ($parts ? 'PARTITION BY LIST (part)' : ''));
		$node->safe_psql('postgres',
			"CREATE TABLE ${table}_0 PARTITION OF $table FOR VALUES IN (0);
			CREATE TABLE ${table}_1 PARTITION OF $table FOR VALUES IN (1, 2)")
		  if $parts;
		$node->safe_psql('postgres', qq{
			SELECT dbopt_attach_events('$table', 'id');
			GRANT SELECT, UPDATE ON $table TO $role;
			CREATE FUNCTION handle(e $table) RETURNS void LANGUAGE plpgsql
				AS 'BEGIN INSERT INTO effects VALUES (''$table'', e.id::text); END';
			SELECT dbopt_register_handler('$table', '*', 'handle($table)', events => '$table',
				start_from => 'beginning', chunk_size => $chunk_size, max_concurrency => 3, run_as => '$role');
		});
	}
}

my $insert = join '',
  map { "INSERT INTO $_ (event_type) SELECT 'T' || (random() * 2)::int FROM generate_series(1, 1 + (random() * 3)::int);\n" } @tables;
my @scripts = (
	"BEGIN;\n${insert}SELECT pg_sleep(0.003); -- work\nCOMMIT;\n",
	"BEGIN;\n${insert}ROLLBACK;\n",
	"BEGIN;\nSAVEPOINT a;\n${insert}ROLLBACK TO a;\n${insert}SAVEPOINT b;\n${insert}COMMIT;\n",
	"BEGIN ISOLATION LEVEL REPEATABLE READ;\n${insert}COMMIT;\n",
	"BEGIN ISOLATION LEVEL SERIALIZABLE;\n${insert}COMMIT;\n",
	"\\set n random(1, 1000000000000)\nBEGIN;\n${insert}PREPARE TRANSACTION 'p:client_id-:n';\nSELECT pg_sleep(0.005); -- work\nCOMMIT PREPARED 'p:client_id-:n';\n",
	# Moves events, delivered ones and others.
	"BEGIN;\nUPDATE log_in_parts SET part = (part + 1) % 3 WHERE id % 17 = :client_id;\n${insert}COMMIT;\n");
my @files;
foreach my $i (0 .. $#scripts)
{
	push @files, '-f', "$dir/w$i";
	append_to_file("$dir/w$i", $scripts[$i]);
}

my $long = $node->background_psql('postgres');
$long->query_safe("BEGIN; $insert");
foreach my $round (1, 2)
{
	$node->command_ok(
		[ 'pgbench', '-n', '-c', '8', '-j', '2', '--max-tries', '100', '-t', '15', @files, 'postgres' ],
		"the writers are through, round $round");
	next if $round == 2;
	# A partition is attached while events wait.
	foreach my $table (grep { /in_parts/ } @tables)
	{
		$node->safe_psql('postgres', qq{
			CREATE TABLE ${table}_9 (LIKE $table INCLUDING DEFAULTS);
			ALTER TABLE $table ATTACH PARTITION ${table}_9 FOR VALUES IN (9);
			INSERT INTO $table (event_type, part) SELECT 'T9', 9 FROM generate_series(1, 100);
		});
	}
}
$long->query_safe('COMMIT');
$long->quit;
drained($node, 'after the writers');
foreach my $table (@tables)
{
	each_once($node, $table, $table, 'id::text', 300);
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table WHERE NOT processed"),
		'0', "$table: all are marked as processed")
	  if $table =~ /^marked/;
}
no_job_failed($node);
$node->stop;
done_testing();
