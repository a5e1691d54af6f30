# Partitions that go, or come, while the index of their table is being built;
# that belong to somebody else; and on which an older version of the library has
# left something under a name that it had cut.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = building_server('partitions');
sql('CREATE EXTENSION dbopt CASCADE');

sub make
{
	my ($name, @parts) = @_;

	sql("CREATE TABLE $name (a int, b int) PARTITION BY LIST (a)");
	sql("CREATE TABLE ${name}_$_ PARTITION OF $name FOR VALUES IN ($_); INSERT INTO $name SELECT $_, i FROM generate_series(1, 1000) i")
	  foreach (@parts);
	return;
}

# The whole and each partition has a valid index, which is part of the whole's.
sub is_whole
{
	my ($name, $parts) = @_;

	wait_for("SELECT status = 'valid' AND last_error IS NULL FROM dbopt_index_status() WHERE name = '${name}_b'", "$name: the index is built");
	is(sql("SELECT count(*), bool_and(isleaf = (level = 1)) FROM pg_partition_tree('${name}_b')"), $parts + 1 . '|t', "$name: with all of its parts");
	is(sql("SELECT count(*) FROM pg_index WHERE indrelid IN (SELECT relid FROM pg_partition_tree('$name'))"), $parts + 1, "$name: and nothing else");
	return;
}

# ---- while it is being built ----

make('rotated', 1 .. 4);
my $writer = start_build('rotated_b', 'rotated', '(b)', locked => 'rotated_1');
sql(q{
	DROP TABLE rotated_2;
	CREATE TABLE rotated_5 PARTITION OF rotated FOR VALUES IN (5);
	INSERT INTO rotated SELECT 5, i FROM generate_series(1, 1000) i;
});
sql('ALTER TABLE rotated DETACH PARTITION rotated_4; DROP TABLE rotated_4');
release($writer);
is_whole('rotated', 3);
is(sql(q{SELECT attempts, error_code IS NULL FROM dbopt_index_state WHERE name = 'rotated_b'}), '0|t', 'rotated: at once');

# ---- of another owner ----

sql(q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE other LOGIN;
	GRANT CREATE ON SCHEMA public TO owner, other;
	GRANT INSERT ON dbopt_index TO owner;
});
make('mixed', 1 .. 2);
sql('ALTER TABLE mixed OWNER TO owner; ALTER TABLE mixed_1 OWNER TO owner; ALTER TABLE mixed_2 OWNER TO other');
declare('mixed_b', 'mixed', '(b)');
is_whole('mixed', 2);
is(sql(q{SELECT string_agg(relowner::regrole::text, ' ' ORDER BY relname) FROM pg_class WHERE oid IN (SELECT relid FROM pg_partition_tree('mixed_b'))}),
	'owner other owner', 'mixed: each index belongs to the owner of its table');

# The owner of the whole may have one built on all partitions, as by hand, but
# where he may create nothing; whoever builds it.
sql(q{
	CREATE SCHEMA closed;
	SET ROLE owner;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('mixed_ab', 'mixed', '(a, b)');
	RESET ROLE;
	CALL dbopt_ensure_indexes('mixed', true);
});
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'mixed_ab'}), 'valid', 'mixed: the owner of the whole has one built');
sql(q{DROP INDEX mixed_ab; ALTER TABLE mixed_2 SET SCHEMA closed});
foreach my $login ('LOGIN', 'NOLOGIN')
{
	sql(qq{
		ALTER ROLE owner $login;
		SET client_min_messages = error;
		CALL dbopt_ensure_indexes('mixed', true);
	});
	is(sql(q{SELECT status, last_error FROM dbopt_index_status() WHERE name = 'mixed_ab'}),
		'failed|permission denied for schema closed', "mixed: but not in a schema that is closed to him: $login");
	is(indexes('mixed_1'), 'mixed_1_mixed_b', '... nor half of it');
}

# ---- what an older version has left ----

# Its names were those of PostgreSQL itself for an index of these columns.
my $long = 'a_partitioned_table_with_a_long_name_and_a_b';
my $cut = sub { return substr($_[0], 0, 31) . '_' . substr($_[1], 0, 31) };
make($long, 1 .. 2);
my $left = $cut->("${long}_1", "${long}_b");
sql(qq{
	CREATE INDEX "$left" ON ${long}_1 (b);
	CREATE INDEX by_hand ON ${long}_1 (b, a);
	UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('"$left"'::regclass, 'by_hand'::regclass);
});
declare("${long}_b", $long, '(b)');
wait_for("SELECT status = 'valid' FROM dbopt_index_status() WHERE name = '${long}_b'", 'cut: the index is built');
is(sql(qq{SELECT to_regclass('"$left"') IS NULL}), 't', 'cut: what was left under a name that was cut is dropped');
like(indexes("${long}_1"), qr/\bby_hand invalid\b/, 'cut: and no other index');

$node->stop;
done_testing();
