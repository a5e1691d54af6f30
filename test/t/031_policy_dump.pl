# Edited and own policies, rules and declared indexes survive dump and restore,
# in every format and beside the rows that CREATE EXTENSION makes.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('dump');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION dbopt CASCADE');
$node->safe_psql(
	'postgres', q{
	UPDATE dbopt_retry_policy SET max_attempts = 9 WHERE name = 'event';
	INSERT INTO dbopt_retry_policy (name, base_delay) VALUES ('a policy of mine', '3 s');
	INSERT INTO dbopt_retryable_error (policy, pattern, retryable) VALUES ('a policy of mine', 'cheese', true);
	INSERT INTO dbopt_retryable_error (sqlstate, retryable) VALUES ('XX', false);
	UPDATE dbopt_retryable_error SET retryable = false WHERE sqlstate = '40001';
	UPDATE dbopt_retryable_error SET retryable = true WHERE policy = 'event' AND sqlstate = '23';
	UPDATE dbopt_retryable_error SET retryable = false WHERE pattern = 'timeout';
	CREATE ROLE declarer;
	CREATE TABLE tools (id int, name text);
	ALTER TABLE tools OWNER TO declarer;
	GRANT INSERT ON dbopt_index TO declarer;
	UPDATE dbopt_index SET definition = '(lower(domain))' WHERE name = 'idx_organizations_domain';
	UPDATE dbopt_index SET enabled = false WHERE name = 'idx_api_keys_usage';
	SET ROLE declarer;
	INSERT INTO dbopt_index (name, table_name, definition, is_unique, alternatives)
	VALUES ('"quoted" name', 'tools', '(name) WHERE name <> ''''', true, '{(id)}');
	RESET ROLE;
	INSERT INTO dbopt_index VALUES ('of a view', 'tools_view', '(id)'), ('lost column', 'tools', '(colour)');
	CREATE VIEW tools_view AS SELECT * FROM tools;
	CREATE TABLE kept (id int);
	INSERT INTO dbopt_index VALUES ('kept_id', 'kept', '(id)');
	CALL dbopt_ensure_indexes('kept');
});

my $everything = q{
	SELECT p::text FROM dbopt_retry_policy p
	UNION ALL SELECT e::text FROM dbopt_retryable_error e
	UNION ALL SELECT i::text FROM dbopt_index i ORDER BY 1
};
my $before = $node->safe_psql('postgres', $everything);
my $file = PostgreSQL::Test::Utils::tempdir . '/dump';

sub restored_is_same
{
	my ($database, $what) = @_;

	is($node->safe_psql($database, $everything), $before, "$what: the same policies, rules and indexes");
	is( $node->safe_psql($database, "SELECT dbopt_is_retryable('40001', '', 'a policy of mine')"),
		'f',
		"$what: and they are in force");
	return;
}

my %formats = (
	plain => [],
	inserts => ['--inserts'],
	columns => [ '--column-inserts', '--rows-per-insert=10' ]);
foreach my $name (sort keys %formats)
{
	$node->command_ok([ 'pg_dump', '-f', $file, @{ $formats{$name} }, 'postgres' ], "$name: dumped");
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $name ], "$name: restored");
	restored_is_same($name, $name);
}

$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, 'postgres' ], 'custom: dumped');
$node->safe_psql('postgres', 'CREATE DATABASE custom');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'custom', $file ], 'custom: restored');
restored_is_same('custom', 'custom');

# Which indexes dbopt has built is known there, too.
is( $node->safe_psql('custom', q{SELECT status FROM dbopt_index_status() WHERE name = 'kept_id'}),
	'valid', 'an index that dbopt has built is restored');
$node->safe_psql('custom', 'CALL dbopt_drop_indexes()');
is($node->safe_psql('custom', q{SELECT count(*) FROM pg_indexes WHERE indexname = 'kept_id'}), 0, 'and dropped by it');
$node->safe_psql('custom', 'CALL dbopt_ensure_indexes()');

# What was restored can be dumped again.
$node->command_ok([ 'pg_dump', '-f', $file, 'custom' ], 'again: dumped');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, 'again' ], 'again: restored');
restored_is_same('again', 'again');

$node->stop;
done_testing();
