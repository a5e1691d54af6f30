# Indexes that are there but not as declared: different, invalid, half built,
# left over by REINDEX, or missing on some partitions.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('replacement');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
dbopt.index_inline_pages = 0
max_worker_processes = 16
autovacuum = off
});
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE things (id int PRIMARY KEY, name text, kind int UNIQUE);
	INSERT INTO things SELECT i, 'thing ' || i, i FROM generate_series(1, 20000) i;
	CREATE INDEX things_name ON things (lower(name));
	CREATE INDEX things_kind ON things (kind);
	COMMENT ON INDEX things_name IS 'asked for by name';
	ALTER TABLE things CLUSTER ON things_name;
	INSERT INTO dbopt_index VALUES ('things_name', 'things', '(name)'), ('things_kind', 'things', '(kind)'),
		('things_kind_key', 'things', '(name, kind)');
});

sub status
{
	my ($name) = @_;
	return $node->safe_psql('postgres', "SELECT status FROM dbopt_index_status() WHERE name = '$name'");
}

sub indexes
{
	my ($table) = @_;
	return $node->safe_psql('postgres',
		"SELECT string_agg(indexname, ' ' ORDER BY indexname COLLATE \"C\") FROM pg_indexes WHERE tablename = '$table'");
}

# A different index stays in use until the new one is there.
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE things IN ROW EXCLUSIVE MODE');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('things')});
ok( $node->poll_query_until(
		'postgres', q{SELECT reason ~ '^it waits for process' FROM dbopt_index_status() WHERE name = 'things_name'}),
	'the replacement waits for a writer');
like($node->safe_psql('postgres', q{SET enable_seqscan = off; EXPLAIN SELECT * FROM things WHERE lower(name) = 'a'}),
	qr/things_name/, 'while queries still use the old index');
is($node->safe_psql('postgres', q{SELECT progress FROM dbopt_index_status() WHERE name = 'things_name'}),
	0, 'and nothing of it is built');

# All is read and sorted before it waits for those who may still need the old.
my $reader = $node->background_psql('postgres');
my $reader_pid = $reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_backend_pid()');
$blocker->query_safe('COMMIT');
$blocker->quit;
ok( $node->poll_query_until(
		'postgres', qq{SELECT progress = 95 AND reason ~ '^it waits for process $reader_pid \\('
			FROM dbopt_index_status() WHERE name = 'things_name'}),
	'the replacement waits for an old snapshot, at 95 per cent');
$reader->query_safe('COMMIT');
$reader->quit;
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('things', true)});
is(status('things_name'), 'valid', 'then the new one has its name');
is( $node->safe_psql('postgres', q{SELECT obj_description(indexrelid, 'pg_class'), indisclustered
		FROM pg_index WHERE indexrelid = 'things_name'::regclass}),
	'asked for by name|t', 'its comment, and the table is clustered on it');
is($node->safe_psql('postgres', q{SELECT progress IS NULL FROM dbopt_index_status() WHERE name = 'things_name'}),
	't', 'and nothing goes on any more');
is(status('things_kind_key'), 'failed', 'the index of a constraint is not replaced');
like($node->safe_psql('postgres', q{SELECT last_error FROM dbopt_index_status() WHERE name = 'things_kind_key'}),
	qr/belongs to a constraint/, 'and the status says why');
is(indexes('things'), 'things_kind things_kind_key things_name things_pkey', 'nothing else is left');

# Nor is one that something else stands on, which could not be dropped then.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE referred (id int NOT NULL, x int);
	CREATE UNIQUE INDEX referred_id ON referred (id);
	CREATE TABLE refers (id int REFERENCES referred (id));
	CREATE TABLE whole (a int, b int) PARTITION BY RANGE (a);
	CREATE TABLE a_part PARTITION OF whole FOR VALUES FROM (0) TO (10);
	CREATE INDEX whole_a ON whole (a);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('referred_id', 'referred', '(id) INCLUDE (x)', true);
	INSERT INTO dbopt_index VALUES ('a_part_a_idx', 'a_part', '(b)');
	SET client_min_messages = error;
	CALL dbopt_ensure_indexes('referred', true);
	CALL dbopt_ensure_indexes('a_part', true);
});
foreach my $case (
	[ 'referred_id', qr/is what a foreign key refers to$/, 'referred' ],
	[ 'a_part_a_idx', qr/is part of a partitioned table's index$/, 'a_part' ])
{
	my ($name, $reason, $table) = @$case;

	is(status($name), 'failed', "$name is not replaced");
	like($node->safe_psql('postgres', "SELECT last_error FROM dbopt_index_status() WHERE name = '$name'"), $reason, '... and the status says why');
	is(indexes($table), $name, '... and nothing is left');
}
$node->safe_psql('postgres', q{DELETE FROM dbopt_index WHERE name IN ('referred_id', 'a_part_a_idx'); DROP TABLE refers, referred, whole});

# Invalid ones, whoever left them, and what REINDEX CONCURRENTLY leaves.
$node->safe_psql(
	'postgres', q{
	DELETE FROM dbopt_index WHERE name = 'things_kind_key';
	CREATE INDEX things_name_ccnew ON things (name);
	CREATE INDEX things_name_ccold1 ON things (name);
	CREATE INDEX things_name_ccnew_mine ON things (name);
	UPDATE pg_index SET indisvalid = false
	 WHERE indrelid = 'things'::regclass AND indexrelid::regclass::text ~ '^things_(name_cc|kind$)';
});
is(status('things_kind'), 'invalid', 'an invalid index is seen');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('things', true)});
is(status('things_kind'), 'valid', 'and built anew');
is(indexes('things'), 'things_kind things_kind_key things_name things_name_ccnew_mine things_pkey',
	'leftovers of declared indexes are cleared, others stay');
$node->safe_psql('postgres', 'CALL dbopt_drop_indexes()');
is(indexes('things'), 'things_kind_key things_name_ccnew_mine things_pkey', 'what was built here is dropped');

# Partitions in two levels; one of them has the index already.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE parts (id int, at date, kind text) PARTITION BY RANGE (at);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (kind);
	CREATE TABLE parts_2a PARTITION OF parts_2 FOR VALUES IN ('a');
	CREATE TABLE parts_2b PARTITION OF parts_2 DEFAULT;
	INSERT INTO parts SELECT i, date '2024-01-01' + i % 700, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END
		FROM generate_series(1, 20000) i;
	CREATE INDEX mine ON parts_2a (at, kind);
	CREATE ROLE parts_owner;
	ALTER TABLE parts OWNER TO parts_owner;
	ALTER TABLE parts_1 OWNER TO parts_owner;
	ALTER TABLE parts_2 OWNER TO parts_owner;
	ALTER TABLE parts_2a OWNER TO parts_owner;
	ALTER TABLE parts_2b OWNER TO parts_owner;
	INSERT INTO dbopt_index VALUES ('parts_at', 'parts', '(at, kind)');
});

# A writer that does not end: the whole gets its index later.
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; LOCK TABLE parts_1 IN ROW EXCLUSIVE MODE});
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('parts')});
ok( $node->poll_query_until(
		'postgres', q{SELECT reason ~ '^it waits for process' FROM dbopt_index_status() WHERE name = 'parts_at'}),
	'the build waits for a writer of a partition');
$node->safe_psql('postgres', q{INSERT INTO parts VALUES (0, '2024-02-02', 'a')});
pass('for which other writers do not wait');
$writer->query_safe('COMMIT');
$writer->quit;
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('parts', true)});
is(status('parts_at'), 'valid', 'the partitioned index is there');
is( $node->safe_psql('postgres', q{SELECT string_agg(relid::text, ' ' ORDER BY relid::text COLLATE "C")
		FROM pg_partition_tree('parts_at')}),
	'mine parts_1_parts_at parts_2_at_kind_idx parts_2b_parts_at parts_at',
	'with one for each partition, and that which was there');

# It is replaced with all of its parts.
$node->safe_psql('postgres', q{COMMENT ON INDEX parts_at IS 'of the whole';
	UPDATE dbopt_index SET definition = '(kind, at)' WHERE name = 'parts_at';
	CALL dbopt_ensure_indexes('parts', true)});
is(status('parts_at'), 'valid', 'a different partitioned index is replaced');
is( $node->safe_psql('postgres', q{SELECT count(*), bool_and(indisvalid) FROM pg_index
		WHERE indrelid::regclass::text ~ '^parts'}),
	'5|t', 'all of it');
is($node->safe_psql('postgres', q{SELECT obj_description('parts_at'::regclass, 'pg_class')}),
	'of the whole', 'and keeps its comment');
foreach my $definition ('(at)', '(id)')
{
	$node->safe_psql('postgres', qq{UPDATE dbopt_index SET definition = '$definition' WHERE name = 'parts_at';
		CALL dbopt_ensure_indexes('parts', true)});
	is( $node->safe_psql('postgres', qq{SELECT status, (SELECT count(*) FROM pg_index WHERE indrelid::regclass::text ~ '^parts'
			AND indisvalid AND right(pg_get_indexdef(indexrelid), length('$definition')) = '$definition') FROM dbopt_index_status() WHERE name = 'parts_at'}),
		"valid|5", "and again: $definition");
}
$node->safe_psql('postgres', 'CALL dbopt_drop_indexes()');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid::regclass::text ~ '^parts'}),
	0, 'and dropped');

# What was finished on partitions of a build that was given up is not in the way
# of what is declared afterwards; nor is somebody's index of that name.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE halves (a int, b int) PARTITION BY LIST (a);
	CREATE TABLE halves_1 PARTITION OF halves FOR VALUES IN (1);
	CREATE TABLE halves_2 PARTITION OF halves FOR VALUES IN (2);
	INSERT INTO halves VALUES (1, 1), (2, 2), (2, 2);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('halves_ab', 'halves', '(a, b)', true);
	CREATE INDEX halves_2_of_hand ON halves_2 (b);
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('of_hand', 'halves', '(a)');
	SET client_min_messages = error;
	CALL dbopt_ensure_indexes('halves', true);
});
is(status('halves_ab'), 'failed', 'one partition has the index, the other one cannot');
is(indexes('halves_1'), 'halves_1_halves_ab halves_1_of_hand', '... which the first one keeps');
$node->safe_psql('postgres', q{UPDATE dbopt_index SET is_unique = false WHERE name = 'halves_ab';
	CALL dbopt_ensure_indexes('halves', true)});
is(status('halves_ab'), 'valid', 'declared in another way, it is built');
is(status('of_hand'), 'valid', '... and so is one whose name somebody has given to an index of a partition');
like(indexes('halves_2'), qr/\bhalves_2_of_hand\b/, '... which stays');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid::regclass::text ~ '^halves'
		AND NOT (indisvalid AND indisready AND indislive)}), 0, '... without an invalid index');

# Names of indexes of partitions are cut, and differ nevertheless: those of two
# partitions, and those of two indexes.
my $long = 'a_partitioned_table_with_a_long_name';
my $index = "an_index_of_$long";
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE $long (a int, b int) PARTITION BY LIST (a);
	CREATE TABLE ${long}_for_2025_01 PARTITION OF $long FOR VALUES IN (1);
	CREATE TABLE ${long}_for_2025_02 PARTITION OF $long FOR VALUES IN (2);
	INSERT INTO $long SELECT 1 + i % 2, i FROM generate_series(1, 2000) i;
	INSERT INTO dbopt_index VALUES ('${index}_a', '$long', '(a)'), ('${index}_b', '$long', '(b)');
	CALL dbopt_ensure_indexes('$long', true)});
is(status("${index}_$_"), 'valid', "index $_ of a long name is built on all partitions") foreach qw(a b);

# A unique index that a partitioned partition cannot have is not begun.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE deep (a int, b int, c int) PARTITION BY LIST (a);
	CREATE TABLE deep_1 PARTITION OF deep FOR VALUES IN (1);
	CREATE TABLE deep_2 PARTITION OF deep FOR VALUES IN (2) PARTITION BY LIST (b);
	CREATE TABLE deep_2b PARTITION OF deep_2 DEFAULT;
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('deep_a', 'deep', '(a)', true);
	SET client_min_messages = error;
	CALL dbopt_ensure_indexes('deep', true);
});
is( $node->safe_psql('postgres', q{SELECT status, last_error ~ '^unique constraint on partitioned table must include'
		FROM dbopt_index_status() WHERE name = 'deep_a'}), 'failed|t', 'a partition refuses the index');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid::regclass::text ~ '^deep'}),
	0, '... before another one has it');
$node->safe_psql('postgres', q{DELETE FROM dbopt_index WHERE name = 'deep_a'});

# An index that somebody has locked is not waited for.
$node->safe_psql('postgres', q{CREATE TABLE locked AS SELECT 1 AS a; CREATE INDEX locked_a ON locked (a);
	INSERT INTO dbopt_index VALUES ('locked_a', 'locked', '(a)')});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; REINDEX INDEX locked_a');
is( $node->safe_psql('postgres', q{SET lock_timeout = '100ms';
		SELECT status, reason FROM dbopt_index_status() WHERE name = 'locked_a'}),
	'valid|the index is locked', 'the status of an index that is being built anew');
$locker->query_safe('COMMIT');

# But what it is is found out, when it is to be had.
$node->safe_psql('postgres', q{UPDATE dbopt_index SET definition = '(a DESC)' WHERE name = 'locked_a'});
$locker->query_safe('BEGIN; REINDEX INDEX locked_a');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('locked')});
ok($node->poll_query_until('postgres', q{SELECT state = 'building' FROM dbopt_index_state WHERE name = 'locked_a'}),
	'an index that is locked is not taken for the one that is declared');
$locker->query_safe('COMMIT');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('locked', true)});
like($node->safe_psql('postgres', q{SELECT pg_get_indexdef('locked_a'::regclass)}), qr/\(a DESC\)$/, '... and replaced afterwards');
my $part = $node->safe_psql('postgres', qq{SELECT min(indexrelid)::regclass FROM pg_index
	WHERE indrelid = '${long}_for_2025_01'::regclass AND pg_get_indexdef(indexrelid) ~ '\\(a\\)'});
$locker->query_safe("BEGIN; REINDEX INDEX $part");
is( $node->safe_psql('postgres', qq{SET lock_timeout = '100ms';
		SELECT status, size_bytes IS NULL FROM dbopt_index_status() WHERE name = '${index}_a'}),
	'valid|t', '... and of one of whose parts that is so');
$locker->query_safe('COMMIT');
$locker->quit;
$node->stop;
done_testing();
