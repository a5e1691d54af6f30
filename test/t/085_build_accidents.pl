# What happens to a table, a name, a right or the server while an index is being
# built: each ends in the right status, without an invalid index, and the rest
# is built.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = building_server('accidents', 'restart_after_crash = on', q{deadlock_timeout = '1min'});

sub status
{
	my ($name, $database) = @_;
	return sql("SELECT status FROM dbopt_index_status() WHERE name = '$name'", $database);
}

sub wait_status
{
	my ($name, $status, $what) = @_;
	wait_for("SELECT '$status' = (SELECT status FROM dbopt_index_status() WHERE name = '$name')", $what);
	return;
}

sub leftovers
{
	return sql(q{SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
		WHERE NOT (indisvalid AND indisready AND indislive) OR relname ~ '^dbopt_(new|old)_'});
}

my $schema = q{
	CREATE TABLE things (id int, name text);
	INSERT INTO things SELECT i, 'thing ' || i FROM generate_series(1, 2000) i;
};
sql("CREATE EXTENSION dbopt CASCADE; $schema");
sql(q{
	CREATE TABLE other_things AS SELECT 1 AS a;
	CREATE TABLE handled (a int);
	SELECT dbopt_create_events('log', false);
	CREATE FUNCTION handle(log) RETURNS void LANGUAGE sql AS 'INSERT INTO handled VALUES (1)';
	SELECT dbopt_register_handler('handle', '*', 'handle(log)');
});

# One database's builds do not wait for another's, nor for what becomes of them.
sql('CREATE DATABASE second');
sql("CREATE EXTENSION dbopt CASCADE; $schema", 'second');
my $here = start_build('here', 'things', '(id)');
my $there = start_build('there', 'things', '(id)', database => 'second');
isnt(builder(), builder('second'), 'two databases build at once');

# In each of them one after the other: the scheduler has had its time when it has
# had an event delivered.
declare('after_here', 'other_things', '(a)');
sql(q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('a', 'x', dbopt_uuid_v7(), '{}')});
wait_for('SELECT count(*) = 1 FROM handled', 'an event is delivered meanwhile');
is(status('after_here'), 'queued', 'but no other index built');
$there->query_safe('COMMIT');
sql(q{CALL dbopt_ensure_indexes('things', true)}, 'second');
is(status('there', 'second'), 'valid', 'one ends');
is(status('here'), 'building', 'while the other waits');

# The session is killed outright, and with it all others.
my $pid = builder();
kill 'KILL', $pid;
wait_for(q{SELECT status = 'valid' AND last_error IS NULL FROM dbopt_index_status() WHERE name = 'here'},
	'a build that crashed the server is done again');
is(leftovers(), 0, 'what it had left is gone');
eval { $_->quit } foreach ($here, $there);

# One whose session is ended again and again is given up.
my $writer = start_build('doomed', 'things', '(name, id)');
foreach my $attempt (1 .. 3)
{
	wait_for(qq{SELECT i.attempts = $attempt AND s.reason ~ '^it waits' FROM dbopt_index_state i
		JOIN dbopt_index_status() s USING (name) WHERE name = 'doomed'}, "attempt $attempt waits");
	my $pid = builder();
	sql("SELECT pg_terminate_backend($pid)");
}
wait_status('doomed', 'failed', 'after the last one it has failed');
$writer->query_safe('COMMIT');
$writer->quit;
wait_for(q{SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname = 'doomed')}, 'and leaves nothing');
like(sql(q{SELECT last_error FROM dbopt_index_status() WHERE name = 'doomed'}), qr/session that was building it has gone/,
	'but the reason');
sql(q{DELETE FROM dbopt_index WHERE name = 'doomed'});

# A build that waits for who is waiting for its end gives way by itself.
sql('CREATE TABLE passing AS SELECT 1 AS a');
$writer = start_build('of_passing', 'passing', '(a)');
my $dropper = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'DROP TABLE passing' ]);
wait_for(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^DROP TABLE' AND wait_event_type = 'Lock'},
	'who drops the table waits');
$writer->query_safe('COMMIT');
$writer->quit;
ok($dropper->finish, 'and drops it');
wait_status('of_passing', 'inapplicable', 'its index is inapplicable');
wait_for(q{SELECT state = 'idle' FROM dbopt_index_state WHERE name = 'of_passing'}, 'and not tried again');

# What is given up is one declaration's failure: another one under its name is
# tried by itself, one that is switched off or gone has not failed.
sql(q{
	CREATE TABLE doubles AS SELECT 1 AS a, i AS b FROM generate_series(1, 2) i;
	INSERT INTO dbopt_index (name, table_name, definition, is_unique)
		SELECT name, 'doubles', '(a)', true FROM unnest('{mended,moved,kept,off,gone}'::text[]) name;
	SET client_min_messages = error;
	CALL dbopt_ensure_indexes('doubles', true);
});
is(sql(q{SELECT count(*) FROM dbopt_index_state WHERE state = 'failed'}), 5, 'five declarations have failed');
my $failed_at = sql(q{SELECT failed_at FROM dbopt_index_state WHERE name = 'kept'});
sql(q{
	UPDATE dbopt_index SET purpose = 'still the same' WHERE name = 'kept';
	UPDATE dbopt_index SET enabled = false WHERE name = 'off';
	DELETE FROM dbopt_index WHERE name = 'gone';
	UPDATE dbopt_index SET table_name = 'things', definition = '(id)' WHERE name = 'moved';
	UPDATE dbopt_index SET definition = '(b)' WHERE name = 'mended';
});
wait_status('mended', 'valid', 'one that is mended is built by itself');
wait_status('moved', 'valid', '... and one that is for another table');
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'kept'}), 'failed', 'one that means the same has failed');
is(sql(q{SELECT failed_at FROM dbopt_index_state WHERE name = 'kept'}), $failed_at, '... and is not tried again');
is(sql(q{SELECT state, error_code IS NULL FROM dbopt_index_state WHERE name = 'off'}), 'idle|t', 'what is switched off is forgotten');
is(sql(q{SELECT count(*) FROM dbopt_index_state WHERE name = 'gone'}), 0, '... and what is gone');
sql(q{DROP TABLE doubles; CREATE TABLE doubles AS SELECT 1 AS a});
is(sql(q{SELECT status, last_error IS NULL FROM dbopt_index_status() WHERE name = 'kept'}), 'missing|t',
	'another table under the name has nothing to do with it');
sql(q{DELETE FROM dbopt_index WHERE name IN ('mended', 'moved', 'kept', 'off'); DROP INDEX moved; DROP TABLE doubles});

# The declaration goes, and the build with it.
$writer = start_build('recanted', 'things', '(id, name)');
sql(q{DELETE FROM dbopt_index WHERE name = 'recanted'});
wait_for(q{SELECT count(*) = 0 FROM pg_stat_progress_create_index}, 'what is not declared any longer is not built');
$writer->query_safe('COMMIT');
$writer->quit;
wait_for(q{SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname = 'recanted')}, '... and what is left of it is dropped');

# While an index is replaced, its name is given to one of another table.
sql('CREATE TABLE others (a int); CREATE INDEX taken ON things (name)');
$writer = start_build('taken', 'things', '(lower(name))');
sql('ALTER INDEX taken RENAME TO kept; CREATE INDEX taken ON others (a)');
$writer->query_safe('COMMIT');
$writer->quit;
wait_for(q{SELECT status = 'inapplicable' AND reason ~ 'belongs to an index of table "others"'
	AND last_error ~ 'was changed while it was being built' FROM dbopt_index_status() WHERE name = 'taken'},
	'a name that was taken meanwhile is left to its owner');
wait_for(q{SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname ~ '^dbopt_new')}, 'the new index is dropped');
is(sql(q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY 1) FROM pg_index
	WHERE indexrelid IN ('kept'::regclass, 'taken'::regclass)}), 'kept taken', 'the others stay');

# It is renamed only: who did that wants to keep it.
sql('DROP INDEX taken; ALTER INDEX kept RENAME TO taken');
$writer = start_build('taken', 'things', '(lower(name))');
sql('ALTER INDEX taken RENAME TO kept');
$writer->query_safe('COMMIT');
$writer->quit;
wait_status('taken', 'valid', 'an index whose name has become free gets it');
like(sql(q{SELECT pg_get_indexdef('kept'::regclass)}), qr/\(name\)/, 'and the one that had it stays');

# The owner loses a right that the definition needs.
sql(q{
	CREATE ROLE owner LOGIN;
	GRANT CREATE ON SCHEMA public TO owner;
	CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * $1; END';
	CREATE TABLE owned AS SELECT 1 AS a;
	ALTER TABLE owned OWNER TO owner;
});
$writer = start_build('owned_twice', 'owned', '(public.twice(a))');
sql(q{
	REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('owned_a', 'owned', '(a)');
});
$writer->query_safe('COMMIT');
$writer->quit;
sql(q{SET client_min_messages = error; CALL dbopt_ensure_indexes('owned', true)});
is(sql(q{SELECT status, last_error FROM dbopt_index_status() WHERE name = 'owned_twice'}),
	'failed|permission denied for function twice', 'without a right the build fails');
is(status('owned_a'), 'valid', 'and the next one is built');
is(leftovers(), 0, 'no invalid index is left');
sql(q{GRANT EXECUTE ON FUNCTION twice TO owner; CALL dbopt_ensure_indexes('owned', true)});
is(status('owned_twice'), 'valid', 'with it, it is built');
$node->stop;
done_testing();
