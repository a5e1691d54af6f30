# Which indexes dbopt_drop_indexes() drops and DROP EXTENSION counts: those that
# dbopt has built, also after dump and restore, whatever their tables are called
# since; not those that somebody has made, or renamed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('built');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 24");
$node->start;
asking($node);

# Under which PostgreSQL prints what is declared here in another way.
my $odd_settings = q{
	SET TimeZone = 'Asia/Tokyo';
	SET DateStyle = 'German';
	SET IntervalStyle = 'iso_8601';
	SET quote_all_identifiers = on;
	SET extra_float_digits = -10;
	SET bytea_output = 'escape';
	SET standard_conforming_strings = off;
	SET search_path = elsewhere, public;
};
my $tables = q{
	CREATE SCHEMA elsewhere;
	CREATE FUNCTION elsewhere.twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * $1';
	CREATE TABLE users (id int, email text, status text);
	CREATE TABLE things (id int, name text, at timestamptz, took interval, score float8, data bytea);
	CREATE TABLE whole (a int, b int) PARTITION BY LIST (a);
	CREATE TABLE part PARTITION OF whole FOR VALUES IN (1);
	CREATE TABLE moving AS SELECT 1 AS a;
};
my $declared = q{
	INSERT INTO dbopt_index (name, table_name, definition) VALUES
		('odd', 'things', $d$(name, elsewhere.twice(id)) WHERE at > '2024-05-06 07:08:09+00' AND took > '1 day 02:00'
			AND score > 0.1::float8 AND data <> 'abc'::bytea AND name <> E'a\\\\b'$d$),
		('"a" name', 'things', '(name)'), ('renamed', 'things', '(at)'), ('handmade', 'things', '(id, name)'),
		('unknown', 'things', '(name, id)'), ('of_whole', 'whole', '(b)'), ('of_moving', 'moving', '(a)');
};

# Those of the tables above.
sub indexes
{
	my ($database) = @_;

	return sql(q{SELECT string_agg(relname, ', ' ORDER BY relname COLLATE "C") FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
		WHERE indrelid IN (SELECT oid FROM pg_class WHERE relname IN ('users', 'things', 'whole', 'moving', 'moved'))}, $database);
}

# DROP EXTENSION, which is taken back, says how many there are.
sub is_counted
{
	my ($database, $count, $what) = @_;
	my ($status, $out, $err) = $node->psql($database, 'BEGIN; DROP EXTENSION dbopt CASCADE; ROLLBACK');

	like($err, qr/NOTICE:  $count indexes that dbopt has built stay in place/, "$what: DROP EXTENSION counts them");
	return;
}

# Dumps a database, and restores it as another.
sub copy
{
	my ($origin, $database) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . '/dump';

	$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, $origin ], "$database: dumped");
	sql("CREATE DATABASE $database");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $database, $file ], "$database: restored");
	return;
}

# ---- built in every way ----

sql($tables);
sql(q{CREATE EXTENSION dbopt CASCADE; SELECT dbopt_create_events('log', false)});
sql("$declared; $odd_settings; CALL dbopt_ensure_indexes()");
sql(q{
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('pooled', 'things', '(id)');
	SET dbopt.index_inline_pages = 0;
	CALL dbopt_ensure_indexes('things', true);
});
my $all = '"a" name, handmade, idx_users_email_lower, odd, of_moving, of_whole, pooled, renamed, unknown';
is(indexes(), $all, 'all are built');
is(sql('SELECT count(*) FROM dbopt_index_state WHERE built AND definition IS NULL'), 0, '... and their definitions known');
is_counted('postgres', 9, 'all');

# ---- by other names ----

sql(q{
	ALTER TABLE moving RENAME TO moved;
	ALTER TABLE moved RENAME COLUMN a TO b;
	ALTER TABLE moved SET SCHEMA elsewhere;
	ALTER INDEX renamed RENAME TO mine;
});
wait_for(q{SELECT definition = 'CREATE INDEX of_moving ON elsewhere.moved USING btree (b)' AND index_schema = 'elsewhere'
	FROM dbopt_index_state WHERE name = 'of_moving'}, 'the new names of a table are written down');
is_counted('postgres', 8, 'one is renamed');

# ---- restored ----

copy('postgres', 'restored');
is(sql('SELECT count(*) FROM dbopt_index_state WHERE index_oid <> 0', 'restored'), 0, 'restored: known by their names alone');
is_counted('restored', 8, 'restored');
sql(q{
	DROP INDEX handmade, "a" name;
	CREATE INDEX handmade ON things (id, name DESC);
	CREATE TABLE """a"" name" (a int);
	UPDATE dbopt_index_state SET definition = NULL WHERE name = 'unknown';
} =~ s/"a" name;/"""a"" name";/r, 'restored');
is_counted('restored', 5, 'restored, some made by hand');
$node->safe_psql('restored', "$odd_settings CALL public.dbopt_drop_indexes()");
is(indexes('restored'), 'handmade, mine, unknown', 'restored: what dbopt has built is dropped, and no more');

# ---- and resumed ----

copy('postgres', 'resumed');
sql('SELECT dbopt_resume()', 'resumed');
wait_for(q{SELECT count(*) = 8 FROM dbopt_index_state WHERE index_oid <> 0}, 'resumed: they are found', 'resumed');
sql(q{
	ALTER TABLE things RENAME TO users;
	DROP INDEX handmade;
	CREATE INDEX handmade ON users (id, name);
} =~ s/^/ALTER TABLE users RENAME TO moving;/r, 'resumed');
is_counted('resumed', 7, 'resumed, a table renamed');
sql('CALL dbopt_drop_indexes()', 'resumed');
is(indexes('resumed'), 'handmade, mine', 'resumed: the same, and one that was made in the same way stays');

# ---- an OID that means something else ----

sql(q{
	CREATE INDEX other ON things (score);
	UPDATE dbopt_index_state SET index_oid = 'other'::regclass WHERE name = 'handmade';
	UPDATE dbopt_index_state SET index_oid = 'things'::regclass WHERE name = 'pooled';
	CALL dbopt_drop_indexes();
});
is(indexes(), 'handmade, mine, other, pooled', 'an index that has another name is not dropped');

# ---- what something else stands on by now ----

sql(q{
	CREATE TABLE stood_on (a int NOT NULL, b int NOT NULL, c int);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES
		('a_primary', 'stood_on', '(a)', true), ('b_identity', 'stood_on', '(b)', true), ('c_last', 'stood_on', '(c)', false);
	CALL dbopt_ensure_indexes('stood_on');
	ALTER TABLE stood_on ADD CONSTRAINT a_primary PRIMARY KEY USING INDEX a_primary;
	ALTER TABLE stood_on REPLICA IDENTITY USING INDEX b_identity;
});
my ($status, $out, $err) = $node->psql('postgres', q{CALL dbopt_drop_indexes('stood_on')});
is($status, 0, 'dbopt_drop_indexes() goes on');
like($err, qr/WARNING:  index "a_primary" is not dropped: it belongs to a constraint/, '... past what a constraint needs');
like($err, qr/WARNING:  index "b_identity" is not dropped: it is the table's replica identity/, '... and the replica identity');
is(sql(q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY 1) FROM pg_index WHERE indrelid = 'stood_on'::regclass}),
	'a_primary b_identity', '... and drops the others');

# ---- of version 1.0 ----

sql('CREATE DATABASE old');
sql("$tables CREATE EXTENSION dbopt VERSION '1.0' CASCADE; $declared CALL dbopt_ensure_indexes()", 'old');
is_counted('old', 8, 'at 1.0');
is( sql("$odd_settings BEGIN; ALTER EXTENSION dbopt UPDATE; SELECT count(definition) FROM public.dbopt_index_state; COMMIT", 'old'),
	8, 'updated: all definitions are known');
copy('old', 'from_old');
is_counted('from_old', 8, 'updated and restored');
sql('CALL dbopt_drop_indexes()', 'from_old');
is(indexes('from_old'), '', 'updated and restored: all are dropped');

$node->stop;
done_testing();
