# A declaration that is edited, switched off or deleted while its index is being
# built: the build ends at once, what it has left is dropped, and what is
# declared now is built.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = building_server('edited', 'restart_after_crash = on');

# Starts a build, changes its declaration, and lets the writer go when the build
# has ended.
sub change
{
	my ($name, $definition, $statement, $table, $locked) = @_;
	my $writer = start_build($name, $table // 'things', $definition, locked => $locked);

	sql("$statement WHERE name = '$name'");
	wait_for(q{SELECT count(*) = 0 FROM pg_stat_progress_create_index}, "$name: the build has ended, the writer has not");
	release($writer);
	return;
}

# Done, without a failure.
sub is_settled
{
	my ($name, $table, $columns) = @_;
	wait_for(qq{SELECT state = 'idle' AND built AND index_oid = '$name'::regclass AND error_code IS NULL
		FROM dbopt_index_state WHERE name = '$name' AND to_regclass('$name') IS NOT NULL}, "$name: an index is built");
	like(sql("SELECT pg_get_indexdef('$name'::regclass)"), qr/ ON public\.$table USING btree \Q$columns\E$/,
		"$name: it is the one that is declared");
	return;
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE things AS SELECT i AS id, 'thing ' || i AS name FROM generate_series(1, 2000) i;
	CREATE TABLE others AS TABLE things;
});

# ---- edited ----

change('edited', '(id)', q{UPDATE dbopt_index SET definition = '(name)'});
is_settled('edited', 'things', '(name)');
change('moved', '(id)', q{UPDATE dbopt_index SET table_name = 'others'});
is_settled('moved', 'others', '(id)');
is(indexes('things'), 'edited', 'moved: nothing is left on the table before');

# An index is being replaced.
sql('CREATE INDEX replaced ON things (id)');
change('replaced', '(name, id)', q{UPDATE dbopt_index SET definition = '(id, name)'});
is_settled('replaced', 'things', '(id, name)');
is(indexes('things'), 'edited, replaced', 'replaced: nothing else is left');

# What does not change the index does not end its build.
my $writer = start_build('same', 'things', '(id)');
sql(q{UPDATE dbopt_index SET purpose = 'the same' WHERE name = 'same'});
change_other();
release($writer);
is_settled('same', 'things', '(id)');

# The scheduler has seen the change before when it has seen this one.
sub change_other
{
	sql(q{
		INSERT INTO dbopt_index (name, table_name, definition) VALUES ('other', 'others', '(name)');
		CALL dbopt_ensure_indexes('others');
	});
	return;
}
wait_for(q{SELECT status = 'valid' FROM dbopt_index_status() WHERE name = 'other'}, 'same: the next one is built');

# ---- switched off, and deleted ----

change('off', '(name)', 'UPDATE dbopt_index SET enabled = false');
wait_for(q{SELECT state = 'idle' AND NOT built AND error_code IS NULL FROM dbopt_index_state WHERE name = 'off'},
	'off: nothing is to be done');
change('deleted', '(name)', 'DELETE FROM dbopt_index');
wait_for(q{SELECT count(*) = 0 FROM dbopt_index_state WHERE name = 'deleted'}, 'deleted: it is forgotten');
is(indexes('things'), 'edited, replaced, same', 'nothing is left of either');

# ---- on partitions, of which one is done ----

sql(q{
	CREATE TABLE whole (a int, b int) PARTITION BY LIST (a);
	CREATE TABLE part_1 PARTITION OF whole FOR VALUES IN (1);
	CREATE TABLE part_2 PARTITION OF whole FOR VALUES IN (2);
});
change('whole_i', '(a)', 'DELETE FROM dbopt_index', 'whole', 'part_2');
wait_for(q{SELECT count(*) = 0 FROM dbopt_index_state WHERE name = 'whole_i'}, 'partitions: it is forgotten');
is(indexes('part_1'), '', 'partitions: what was finished of it has gone');
is(indexes('part_2'), '', 'partitions: and what was not');
change('whole_i', '(a)', q{UPDATE dbopt_index SET definition = '(b)'}, 'whole', 'part_2');
wait_for(q{SELECT status = 'valid' FROM dbopt_index_status() WHERE name = 'whole_i'}, 'partitions: another index is built');
is(indexes('part_1'), 'part_1_whole_i', 'partitions: and none beside it');

# ---- by who has small tables' indexes built at once ----

# It is edited and asked for in one transaction: the scheduler sees both.
sub edit_and_ensure
{
	my ($name, $set, $table) = @_;

	return qq{
		SET dbopt.index_inline_pages = 1000;
		BEGIN;
		UPDATE dbopt_index SET $set WHERE name = '$name';
		CALL dbopt_ensure_indexes('$table');
		COMMIT;
	};
}

sql('CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.small AS TABLE others');
foreach my $case ([ 'stays', q{definition = '(name, id)'}, 'things', 'edited, replaced, same, stays' ],
	[ 'goes', q{table_name = 'elsewhere.small', definition = '(name, id)'}, 'elsewhere.small', 'goes' ])
{
	my ($name, $set, $table, $all) = @$case;
	my $writer = start_build($name, 'things', '(id, name)');

	sql(edit_and_ensure($name, $set, $table));
	wait_for(q{SELECT count(*) = 0 FROM pg_stat_progress_create_index}, "$name: the build has ended, the writer has not");
	release($writer);
	wait_for(qq{SELECT state = 'idle' AND built AND index_oid = i.indexrelid AND error_code IS NULL
		FROM dbopt_index_state, pg_index i WHERE name = '$name' AND indrelid = '$table'::regclass
		AND indexrelid::regclass::text ~ '$name\$'}, "$name: it is settled");
	is(sql(qq{SELECT pg_get_indexdef(index_oid) ~ ' \\(name, id\\)\$', status
		FROM dbopt_index_state JOIN dbopt_index_status() USING (name) WHERE name = '$name'}), 't|valid',
		"$name: as it is declared now");
	is(indexes($table), $all, "$name: nothing else is left");
}
is(indexes('things'), 'edited, replaced, same, stays', 'goes: nothing is left on the table before');
sql(q{DELETE FROM dbopt_index WHERE name = 'stays'; DROP INDEX stays});

# Between one partition and the next nothing is locked but by who asks.
foreach my $case ([ 'asked', '', 'a' ], [ 'taken', q{UPDATE dbopt_index SET definition = '(b)' WHERE name = 'taken_i';}, 'b' ])
{
	my ($name, $edit, $column) = @$case;

	sql(qq{
		CREATE TABLE $name (a int, b int) PARTITION BY LIST (a);
		CREATE TABLE ${name}_1 PARTITION OF $name FOR VALUES IN (1);
		CREATE TABLE ${name}_2 PARTITION OF $name FOR VALUES IN (2);
	});
	my $writer = start_build("${name}_i", $name, '(a)', locked => "${name}_1");
	my $asker = $node->background_psql('postgres');
	my $pid = $asker->query_safe("SET dbopt.index_inline_pages = 1000; BEGIN; LOCK TABLE ${name}_2 IN SHARE MODE; SELECT pg_backend_pid()");

	release($writer);
	wait_for(qq{SELECT reason ~ '^it waits for process $pid ' FROM dbopt_index_status() WHERE name = '${name}_i'},
		"$name: one partition is done, the next waits");
	$asker->query_safe("$edit CALL dbopt_ensure_indexes('$name')");
	release($asker);
	wait_for(qq{SELECT state = 'idle' AND built AND index_oid = '${name}_i'::regclass AND error_code IS NULL
		FROM dbopt_index_state WHERE name = '${name}_i' AND to_regclass('${name}_i') IS NOT NULL}, "$name: the whole has it");
	is(sql(qq{SELECT string_agg(concat_ws(' ', indrelid::regclass, indisvalid, substring(pg_get_indexdef(indexrelid) FROM '\\(.*')), ', ' ORDER BY indrelid::regclass::text)
		FROM pg_index WHERE indrelid::regclass::text ~ '^${name}'}),
		"$name t ($column), ${name}_1 t ($column), ${name}_2 t ($column)", "$name: it is the one that is declared, once");
}

# ---- a build that cannot be cancelled ----

# It has been finished before it was noticed that nobody wants it.
sql(q{
	CREATE FUNCTION stubborn(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		RETURN a;
	EXCEPTION WHEN query_canceled THEN
		RETURN a;
	END $$;
	CREATE TABLE hard AS SELECT 1 AS a, 2 AS b;
});
my $holder = $node->background_psql('postgres', on_error_stop => 0);
foreach my $case ([ 'late_edit', q{UPDATE dbopt_index SET definition = '(b)'} ], [ 'late_delete', 'DELETE FROM dbopt_index' ])
{
	my ($name, $statement) = @$case;

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql(qq{
		INSERT INTO dbopt_index (name, table_name, definition) VALUES ('$name', 'hard', '(public.stubborn(a))');
		CALL dbopt_ensure_indexes('hard');
	});
	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, "$name: the build waits");
	sql("$statement WHERE name = '$name'");
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
}
$holder->quit;
is_settled('late_edit', 'hard', '(b)');
is_settled('late_delete', 'hard', '(stubborn(a))');
is(indexes('hard'), 'late_delete, late_edit', 'what was finished for a declaration that has gone stays');
sql(q{CALL dbopt_drop_indexes('hard')});
is(indexes('hard'), '', '... until what dbopt has built is dropped');

# ---- the server crashes before it is cleaned up ----

# Who owns the table that is declared now has no right on the one before.
sql('CREATE ROLE keeper LOGIN; GRANT CREATE ON SCHEMA public TO keeper; ALTER TABLE others OWNER TO keeper');
foreach my $case ([ 'crash_delete', 'DELETE FROM dbopt_index', 'things' ],
	[ 'crash_move', q{UPDATE dbopt_index SET table_name = 'others'}, 'others' ])
{
	my ($name, $statement, $table) = @$case;
	my $writer = start_build($name, 'things', '(name, id)');

	sql("$statement WHERE name = '$name'");
	wait_for(q{SELECT count(*) = 0 FROM pg_stat_progress_create_index}, "$name: the build has ended");
	is(indexes('things'), "$name invalid, edited, replaced, same",
		"$name: it has left an index");
	kill 'KILL', builder();
	wait_for(qq{SELECT count(*) = 0 FROM pg_index WHERE indrelid = 'things'::regclass AND NOT indisvalid},
		"$name: which is dropped after a crash");
	eval { $writer->quit };
}
is(indexes('things'), 'edited, replaced, same', 'crash: the others stay');
wait_for(q{SELECT count(*) = 0 FROM dbopt_index_state WHERE name = 'crash_delete'}, 'crash_delete: it is forgotten');
is_settled('crash_move', 'others', '(name, id)');

# ---- dbopt_ensure_indexes() during the build ----

sub attempt_waits
{
	my ($attempt) = @_;
	wait_for(qq{SELECT i.attempts = $attempt AND s.reason ~ '^it waits' FROM dbopt_index_state i
		JOIN dbopt_index_status() s USING (name) WHERE name = 'ensured'}, "ensured: attempt $attempt waits");
	return;
}

sub end_session
{
	my $pid = builder();
	sql("SELECT pg_terminate_backend($pid)");
	return;
}

$writer = start_build('ensured', 'things', '(name, id)');
foreach my $attempt (1 .. 2)
{
	attempt_waits($attempt);
	end_session();
}
attempt_waits(3);
sql(q{CALL dbopt_ensure_indexes('things')});
end_session();
attempt_waits(1);
release($writer);
is_settled('ensured', 'things', '(name, id)');

# It is tried again even where that would be in vain otherwise.
sql(q{
	CREATE TABLE doubles AS SELECT 1 AS a FROM generate_series(1, 2);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('vain', 'doubles', '(a)', true);
});
$writer = start_build('vain', 'doubles', '(a)');
sql(q{CALL dbopt_ensure_indexes('doubles')});
release($writer);
wait_for(q{SELECT status = 'failed' FROM dbopt_index_status() WHERE name = 'vain'}, 'vain: it fails');
$node->stop;
my $log = slurp_file($node->logfile);
is(scalar(() = $log =~ /index "vain" could not be built, which is tried again/g), 1, '... the second time');
unlike($log, qr/build of index "same" has ended/, 'same: the build went on');
done_testing();
