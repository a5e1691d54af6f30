# dbopt.auto_index: tables that appear get their declared indexes by themselves,
# and nobody else does.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('auto');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
max_prepared_transactions = 5
autovacuum = off
});
$node->start;

sub sql
{
	my ($statement) = @_;
	return $node->safe_psql('postgres', $statement);
}

sub wait_valid
{
	my ($name, $what) = @_;
	ok( $node->poll_query_until(
			'postgres', "SELECT 'valid' = (SELECT status FROM dbopt_index_status() WHERE name = '$name')"),
		$what);
	return;
}

# Asks the scheduler for something else, and waits until that is done.
my $asked = 0;

sub missing_still
{
	my ($name, $what) = @_;
	$asked++;
	sql(qq{SET dbopt.auto_index = off;
		CREATE TABLE asked_$asked (a int);
		INSERT INTO dbopt_index (name, table_name, definition) VALUES ('asked_${asked}_a', 'asked_$asked', '(a)')});
	sql("SET dbopt.index_inline_pages = 0; CALL dbopt_ensure_indexes('asked_$asked')");
	wait_valid("asked_${asked}_a", "$what: the scheduler has had its time");
	is(sql("SELECT status FROM dbopt_index_status() WHERE name = '$name'"), 'missing', $what);
	return;
}

# In a schema of its own.
sql(q{CREATE SCHEMA ext; ALTER DATABASE postgres SET search_path = public, ext});
sql(q{CREATE EXTENSION dbopt SCHEMA ext CASCADE;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES
		('made_a', 'made', '(a)'), ('made_b', 'made', '(b)'), ('copied_a', 'copied', '(a)'), ('renamed_a', 'renamed', '(a)'),
		('viewed_a', 'viewed', '(a)'), ('prepared_a', 'prepared', '(a)'), ('restored_a', 'restored', '(a)'),
		('whole_a', 'whole', '(a)'), ('twice_a', 'twice', '(a)')});

# Off, as it is at first.
sql('CREATE TABLE made (a int)');
missing_still('made_a', 'off: a new table gets nothing');

# On: what is missing already, then what comes.
sql('ALTER SYSTEM SET dbopt.auto_index = on');
sql('SELECT pg_reload_conf()');
wait_valid('made_a', 'on: what was missing is built');
ok($node->poll_query_until('postgres', 'SHOW dbopt.auto_index', 'on'), 'sessions know it');
sql('ALTER TABLE made ADD b int');
wait_valid('made_b', 'a new column');
sql('CREATE TABLE copied AS SELECT 1 AS a');
wait_valid('copied_a', 'a table made by a query');
sql('CREATE TABLE other (a int)');
sql('ALTER TABLE other RENAME TO renamed');
wait_valid('renamed_a', 'a new name');
sql('CREATE MATERIALIZED VIEW viewed AS SELECT 1 AS a');
wait_valid('viewed_a', 'a materialized view');
sql(q{DO 'BEGIN CREATE TABLE whole (a int) PARTITION BY RANGE (a); CREATE TABLE part PARTITION OF whole DEFAULT; END'});
wait_valid('whole_a', 'a partitioned table, made by a function');
sql(q{BEGIN; CREATE TABLE prepared (a int); PREPARE TRANSACTION 'it'});
sql(q{COMMIT PREPARED 'it'});
wait_valid('prepared_a', 'a prepared transaction');
sql(q{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('declared_later', 'made', '(a, b)')});
wait_valid('declared_later', 'a new declaration');
sql(q{BEGIN; CREATE TABLE rolled_back (a int); ROLLBACK});
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'}), 1, 'the scheduler is well');

# A session that wants none, such as a restore.
sql('SET dbopt.auto_index = off; CREATE TABLE restored (a int)');
missing_still('restored_a', 'off in a session');
$node->restart;
wait_valid('restored_a', 'until the next start');

# What has failed is not tried again by itself; what is different stays.
sql(q{CREATE TABLE twice (a int); INSERT INTO twice VALUES (1), (1)});
wait_valid('twice_a', 'a table with a key that is there twice');
sql(q{INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('twice_unique', 'twice', '(a)', true)});
ok( $node->poll_query_until(
		'postgres', q{SELECT 'failed' = (SELECT status FROM dbopt_index_status() WHERE name = 'twice_unique')}),
	'its unique index fails');
my $failed_at = sql(q{SELECT failed_at FROM dbopt_index_state WHERE name = 'twice_unique'});
sql(q{CREATE TABLE later (a int);
	CREATE INDEX later_b ON later (a) WHERE a > 0;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('later_a', 'later', '(a)'), ('later_b', 'later', '(a)')});
wait_valid('later_a', 'another table is looked after');
is(sql(q{SELECT failed_at FROM dbopt_index_state WHERE name = 'twice_unique'}), $failed_at, 'and what failed is left alone');
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'later_b'}), 'different', 'and so is what is different');

# What has failed on a table that is no more has not failed on the next one.
sql('DROP TABLE twice');
sql('CREATE TABLE twice AS SELECT 1 AS a');
wait_valid('twice_unique', 'a table that is made anew gets all of its indexes');
$node->stop;
done_testing();
