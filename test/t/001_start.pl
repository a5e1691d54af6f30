# A preloaded server starts, creates the extension, restarts and stops.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('start');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

$node->safe_psql('postgres', 'CREATE EXTENSION dbopt CASCADE');
is( $node->safe_psql(
		'postgres',
		"SELECT extversion FROM pg_extension WHERE extname = 'dbopt'"),
	'1.1',
	'extension created in a preloaded server');

$node->restart;
is($node->safe_psql('postgres', 'SHOW shared_preload_libraries'),
	'dbopt', 'library still preloaded after a restart');

$node->stop;
done_testing();
