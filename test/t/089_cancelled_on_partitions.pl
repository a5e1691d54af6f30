# The build of a partitioned table's index that ends just as a partition's is
# done: cancelled, its session ended, its declaration edited or deleted.  What
# is done is not done again, and what nobody wants is dropped.
#
# Between a partition's index and the next one the time that it took is written
# to dbopt_build_rate: who has locked that table holds the build right there.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = building_server('cancelled');
sql('CREATE EXTENSION dbopt CASCADE');

my $holder = $node->background_psql('postgres');

# Starts a build that is held when the first partition is done.
sub start_held
{
	my ($name, $columns) = @_;

	sql(qq{
		CREATE TABLE $name (a int, b int) PARTITION BY LIST (a);
		CREATE TABLE ${name}_1 PARTITION OF $name FOR VALUES IN (1);
		CREATE TABLE ${name}_2 PARTITION OF $name FOR VALUES IN (2);
		INSERT INTO $name SELECT 1 + i % 2, i FROM generate_series(1, 2000) i;
	});
	$holder->query_safe('BEGIN; LOCK TABLE dbopt_build_rate IN SHARE ROW EXCLUSIVE MODE');
	declare("${name}_i", $name, $columns);
	is_held("$name: one partition is done");
	return;
}

sub is_held
{
	my ($what) = @_;

	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'dbopt_build_rate'::regclass AND NOT granted}, $what);
	return;
}

sub let_go
{
	$holder->query_safe('COMMIT');
	return;
}

# The indexes of the whole and its partitions, with their columns.
sub all_indexes
{
	my ($name) = @_;

	return sql(qq{SELECT string_agg(format('%s %s %s', indexrelid::regclass, substring(pg_get_indexdef(indexrelid) FROM '\\(.*'),
			CASE WHEN NOT (indisvalid AND indisready AND indislive) THEN 'invalid' WHEN relispartition THEN 'attached' ELSE 'alone' END),
			', ' ORDER BY relname)
		FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid::regclass::text ~ '^${name}(_[12])?\$'});
}

sub oid
{
	my ($index) = @_;

	return sql("SELECT '$index'::regclass::oid");
}

sub is_settled
{
	my ($name) = @_;

	wait_for(qq{SELECT state = 'idle' AND built AND index_oid = '${name}_i'::regclass AND error_code IS NULL
		FROM dbopt_index_state WHERE name = '${name}_i' AND to_regclass('${name}_i') IS NOT NULL}, "$name: the index is built");
	return;
}

# ---- cancelled, and ended ----

start_held('twice', '(a)');
my $first = oid('twice_1_twice_i');
sql('SELECT pg_cancel_backend(' . builder() . ')');
wait_for(q{SELECT error_code = '57014' FROM dbopt_index_state WHERE name = 'twice_i'}, 'twice: it was cancelled');
is_held('twice: the other partition is done');
my $second = oid('twice_2_twice_i');
my $pid = builder();
sql("SELECT pg_terminate_backend($pid)");
wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'twice: its session has ended');
let_go();
is_settled('twice');
is(all_indexes('twice'), 'twice_1_twice_i (a) attached, twice_2_twice_i (a) attached, twice_i (a) alone', 'twice: it is all there');
is(oid('twice_1_twice_i') . ' ' . oid('twice_2_twice_i'), "$first $second", 'twice: and was built once');

# An index that is no other's part is known as dbopt's all the same.
sql('CREATE TABLE single AS SELECT i AS a FROM generate_series(1, 2000) i');
$holder->query_safe('BEGIN; LOCK TABLE dbopt_build_rate IN SHARE ROW EXCLUSIVE MODE');
declare('single_i', 'single', '(a)');
is_held('single: it is done');
my $single = oid('single_i');
sql('SELECT pg_cancel_backend(' . builder() . ')');
is_settled('single');
is(oid('single_i'), $single, 'single: it was built once');
let_go();

# Nor is it forgotten who built it when the session ends there, or the server
# crashes.
foreach my $way (qw(terminate crash))
{
	my $name = "single_$way";

	sql("CREATE TABLE $name AS SELECT i AS a FROM generate_series(1, 2000) i");
	$holder->query_safe('BEGIN; LOCK TABLE dbopt_build_rate IN SHARE ROW EXCLUSIVE MODE');
	declare("${name}_i", $name, '(a)');
	is_held("$name: it is done");
	my $index = oid("${name}_i");
	if ($way eq 'crash')
	{
		$node->stop('immediate');
		eval { $holder->quit };
		$node->start;
		$holder = $node->background_psql('postgres');
	}
	else
	{
		my $pid = builder();
		sql("SELECT pg_terminate_backend($pid)");
		wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", "$name: its session has ended");
		let_go();
	}
	is_settled($name);
	is(oid("${name}_i"), $index, "$name: it was built once");
}

# What was there before is not dbopt's because a session ended that looked at it.
sql('CREATE TABLE mine AS SELECT 1 AS a; CREATE INDEX mine_i ON mine (a); CREATE INDEX mine_i_ccnew ON mine (a);
	UPDATE pg_index SET indisvalid = false WHERE indexrelid = \'mine_i_ccnew\'::regclass');
$holder->query_safe('BEGIN; SELECT FROM mine');
declare('mine_i', 'mine', '(a)');
wait_for(q{SELECT reason ~ '^it waits' FROM dbopt_index_status() WHERE name = 'mine_i'}, 'mine: a leftover is being dropped');
my $dropper = builder();
sql("SELECT pg_terminate_backend($dropper)");
wait_for("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $dropper)", 'mine: its session has ended');
let_go();
wait_for(q{SELECT state = 'idle' FROM dbopt_index_state WHERE name = 'mine_i'}, 'mine: it is dropped by another one');
is(sql(q{SELECT count(*) FROM dbopt_index_state WHERE name = 'mine_i' AND built}), 0, 'mine: and the index is whose it was');

# ---- for a declaration that is no longer there ----

start_held('edited', '(a)');
sql(q{UPDATE dbopt_index SET definition = '(b)' WHERE name = 'edited_i'});
wait_for(q{SELECT pg_get_indexdef(to_regclass('edited_1_edited_i')) ~ '\(b\)$'}, 'edited: the new one is begun');
is_held('edited: a partition is done of it');
let_go();
is_settled('edited');
is(all_indexes('edited'), 'edited_1_edited_i (b) attached, edited_2_edited_i (b) attached, edited_i (b) alone',
	'edited: nothing is left of the one before');

start_held('deleted', '(a)');
sql(q{DELETE FROM dbopt_index WHERE name = 'deleted_i'});
wait_for(q{SELECT count(*) = 0 FROM dbopt_index_state WHERE name = 'deleted_i'}, 'deleted: it is forgotten');
let_go();
is(all_indexes('deleted'), '', 'deleted: and nothing is left');

# Somebody's index that has the name of a partition's is not dropped with them.
start_held('others', '(a)');
my $other = $node->background_psql('postgres');
my $other_pid = $other->query_safe('BEGIN; LOCK TABLE others_2 IN SHARE MODE; SELECT pg_backend_pid()');
let_go();
wait_for(qq{SELECT reason ~ '^it waits for process $other_pid ' FROM dbopt_index_status() WHERE name = 'others_i'},
	'others: the next partition waits');
$other->query_safe(q{CREATE INDEX others_2_others_i ON others_2 (b); DELETE FROM dbopt_index WHERE name = 'others_i'; COMMIT});
$other->quit;
wait_for(q{SELECT count(*) = 0 FROM dbopt_index_state WHERE name = 'others_i'}, 'others: it is forgotten');
is(all_indexes('others'), 'others_2_others_i (b) alone', "others: the one that was made by hand stays");

$holder->quit;
$node->stop;
done_testing();
