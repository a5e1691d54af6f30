# From version 1.0 to the present one: under load, with what users have edited,
# in other schemas and by other superusers; and the present library at 1.0.
use strict;
use warnings;

use Cwd;
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $root = dirname($FindBin::RealBin, 2);
my $node = survival_node('upgrade', "VERSION '1.0'");

sub dirname
{
	my ($path, $levels) = @_;

	$path =~ s,/[^/]+$,, foreach 1 .. $levels;
	return $path;
}

sub version_in
{
	my ($database) = @_;

	return $node->safe_psql($database, "SELECT extversion FROM pg_extension WHERE extname = 'dbopt'");
}

# ---- under load ----

is(version_in('postgres'), '1.0', 'begun with 1.0');
start_writers($node);
delivers_again($node, 'at 1.0');
$node->safe_psql('postgres', 'ALTER EXTENSION dbopt UPDATE');
my $current = version_in('postgres');
isnt($current, '1.0', 'updated under load');
delivers_again($node, "at $current");
$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
stop_writers();
all_once($node, 'updated under load');
unlike(slurp_file($node->logfile), qr/a job of handler .* failed|has ended/, 'no worker has failed');

# ---- in company ----

# What a caller has asked for goes on while the extension is updated; all else
# is out of the way, until the transaction ends.
sub workers
{
	my ($condition) = @_;

	return "SELECT coalesce(string_agg(CAST(pid AS text), ' '), '') FROM pg_stat_activity
		WHERE datname = 'company' AND backend_type IN ('dbopt scheduler', 'dbopt session') AND $condition";
}

my $is_scheduler = "backend_type = 'dbopt scheduler'";
my $is_callers = "wait_event = 'advisory' AND query ~ '^SELECT'";
my $is_handlers = "wait_event = 'advisory' AND query ~ '^delivering'";

sub scheduler_of_company
{
	$node->poll_query_until('company', "SELECT (@{[ workers($is_scheduler) ]}) <> ''") or die 'no scheduler';
	return $node->safe_psql('company', workers($is_scheduler));
}

$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN; CREATE DATABASE company');
$node->safe_psql('company', q{
	CREATE EXTENSION dbopt VERSION '1.0' CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE seen (id uuid);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql AS $$
		SELECT pg_advisory_xact_lock(1);
		INSERT INTO seen VALUES (e.id);
	$$;
	SELECT dbopt_register_handler('see', '*', 'see(log)')});
my $holder = $node->background_psql('company');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $caller = $node->background_psql('company');
$caller->query_until(qr/called/,
	"\\echo called\nSELECT dbopt_with_connection(\$\$SELECT 'done' FROM pg_advisory_lock(1)\$\$);\n");
$node->safe_psql('company', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('A', 'a', gen_random_uuid(), '{}')});
foreach my $end (qw(ROLLBACK COMMIT))
{
	$node->poll_query_until('company', "SELECT (@{[ workers($_) ]}) <> ''") or die "nobody is at work where $_"
	  foreach $is_scheduler, $is_callers, $is_handlers;
	is( $node->safe_psql('company', 'BEGIN; ALTER EXTENSION dbopt UPDATE; ' . workers('true') . "; $end"),
		$node->safe_psql('company', workers($is_callers)),
		"only a caller's session stays for an update, till $end");
}
$holder->query_safe('SELECT pg_advisory_unlock(1)');
like($caller->query_until(qr/done/, ''), qr/done/, '... and does what it was told');
is($node->safe_psql('company', 'SELECT dbopt_drain()'), 't', 'events are delivered afterwards,');
is($node->safe_psql('company', 'SELECT count(*) FROM seen'), '1', '... each once');
$_->quit foreach $holder, $caller;

# Who may not update, or has nothing to update, stops nobody.
my $scheduler = scheduler_of_company();
$node->safe_psql('company', 'ALTER EXTENSION dbopt UPDATE');
isnt($node->psql('company', "ALTER EXTENSION dbopt UPDATE TO '1.0'", extra_params => [ '-U', 'stranger' ]),
	0, 'a stranger may not update');
is($node->safe_psql('company', workers($is_scheduler)),
	$scheduler, '... nor stop the workers, which stay where there is nothing to do');

# ---- taking time ----

# The workers stay away for as long as it takes, be it longer than from another
# command, and no longer.
my $schedulers = q{SELECT count(*) FROM pg_stat_activity
	WHERE datname = 'patient' AND backend_type = 'dbopt scheduler'};

sub comes_back
{
	my ($name) = @_;
	my $since = $node->safe_psql('patient', 'SELECT clock_timestamp()');

	ok($node->poll_query_until('patient', $schedulers, '1'), "the scheduler comes back when the update is $name");
	is($node->safe_psql('patient', "SELECT clock_timestamp() - '$since' < interval '20 s'"), 't', '... at once');
	return;
}

$node->append_conf('postgresql.conf', 'max_prepared_transactions = 1');
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE patient');
$node->safe_psql('patient', "CREATE EXTENSION dbopt VERSION '1.0' CASCADE");
$node->poll_query_until('patient', $schedulers, '1') or die 'no scheduler';
my $updater = $node->background_psql('patient');
$updater->query_safe('BEGIN; SAVEPOINT s; ALTER EXTENSION dbopt UPDATE; SAVEPOINT t; ROLLBACK TO t');
is($node->safe_psql('patient', $schedulers), '0', 'what is taken back afterwards is nothing to an update');
$updater->query_safe('ROLLBACK TO s');
comes_back('taken back itself');
$updater->query_safe('ALTER EXTENSION dbopt UPDATE; ROLLBACK');
comes_back('rolled back');
$updater->query_safe("BEGIN; ALTER EXTENSION dbopt UPDATE; PREPARE TRANSACTION 'update'");
$node->safe_psql('patient', "ROLLBACK PREPARED 'update'");
comes_back('prepared');
my $reader = $node->background_psql('patient');
$reader->query_safe('BEGIN; LOCK TABLE dbopt_index_state IN ACCESS SHARE MODE');
$updater->query_until(qr/waits/, "\\echo waits\nALTER EXTENSION dbopt UPDATE;\n");
ok( $node->poll_query_until('patient', q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE wait_event_type = 'Lock' AND query ~ '^ALTER' AND query_start < clock_timestamp() - interval '31 s'}),
	'an update waits for a lock');
is($node->safe_psql('patient', $schedulers), '0', '... while nobody can get in its way');
$reader->query_safe('COMMIT');
comes_back('done');
is(version_in('patient'), $current, '... as it is');
$_->quit foreach $reader, $updater;

# ---- writers that wait ----

# They have looked for their position before the update commits.
$node->safe_psql('postgres', 'CREATE DATABASE writes');
$node->safe_psql('writes', q{
	CREATE EXTENSION dbopt VERSION '1.0' CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE seen (id uuid);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.id)';
	SELECT dbopt_register_handler('see', '*', 'see(log)')});
$updater = $node->background_psql('writes');
$updater->query_safe('BEGIN; ALTER EXTENSION dbopt UPDATE');
my $writer = IPC::Run::start(
	[
		'psql', '-XAtq', '-d', $node->connstr('writes'), '-c',
		q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('A', 'a', gen_random_uuid(), '{}')}
	]);
$node->poll_query_until('writes', q{SELECT count(*) FROM pg_stat_activity
	WHERE wait_event_type = 'Lock' AND query ~ '^INSERT INTO log'}, '1') or die 'the writer does not wait';
$updater->query_safe('COMMIT');
$updater->quit;
ok($writer->finish, 'who writes while the extension is updated waits');
ok( $node->poll_query_until('writes', 'SELECT count(*) FROM seen', '1'), '... and the event is delivered')
  or diag $node->safe_psql('writes', 'SELECT log_position FROM log; SELECT * FROM dbopt_backlog()');

# ---- the catalogue ----

# All that belongs to the extension, in words that are the same in every
# database.
my $members = q{
	WITH member AS (
		SELECT classid, objid FROM pg_depend
		 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
		   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt')),
	class AS (
		SELECT c.* FROM pg_class c WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass))
	SELECT 'member', pg_describe_object(classid, objid, 0), obj_description(objid, relname) FROM member
	  JOIN pg_class ON pg_class.oid = classid
	UNION ALL
	SELECT 'function', pg_get_functiondef(oid), concat_ws(' ', proacl, proowner::regrole) FROM pg_proc
	 WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_proc'::regclass)
	UNION ALL
	SELECT 'relation', concat_ws(' ', oid::regclass, relkind, reloptions, relpersistence),
		concat_ws(' ', relacl, relowner::regrole, CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END) FROM class
	UNION ALL
	SELECT 'column', concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
			attidentity, attacl, attcollation::regcollation), concat_ws(' ', pg_get_expr(d.adbin, d.adrelid),
			col_description(attrelid, attnum))
	  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
	 WHERE attrelid IN (SELECT oid FROM class) AND attnum > 0
	UNION ALL
	SELECT 'constraint', concat_ws(' ', conrelid::regclass, conname), pg_get_constraintdef(oid) FROM pg_constraint
	 WHERE conrelid IN (SELECT oid FROM class)
	UNION ALL
	SELECT 'index', pg_get_indexdef(indexrelid), '' FROM pg_index WHERE indrelid IN (SELECT oid FROM class)
	UNION ALL
	SELECT 'trigger', pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger
	 WHERE tgrelid IN (SELECT oid FROM class) AND NOT tgisinternal
	UNION ALL
	SELECT 'dumped', table_oid::regclass::text, condition FROM pg_extension,
		unnest(extconfig, extcondition) u(table_oid, condition) WHERE extname = 'dbopt'
	UNION ALL
	SELECT 'extension', concat_ws(' ', extname, extversion, extowner::regrole, extrelocatable),
		extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'dbopt'
	ORDER BY 1, 2, 3};

# What users may have edited, and what came with the extension.
my $rows = q{
	SELECT p::text FROM dbopt_retry_policy p UNION ALL SELECT e::text FROM dbopt_retryable_error e
	UNION ALL SELECT concat_ws('|', name, table_name, definition, enabled, author, shipped, edited) FROM dbopt_index
	UNION ALL SELECT to_jsonb(s) - 'events_oid' || '{}' #>> '{}' FROM dbopt_source s
	UNION ALL SELECT to_jsonb(h) - 'function_oid' - 'role_oid' #>> '{}' FROM dbopt_handler h
	UNION ALL SELECT c::text FROM dbopt_cursor c UNION ALL SELECT v::text FROM dbopt_cursor_version v
	UNION ALL SELECT r::text FROM dbopt_retry_queue r UNION ALL SELECT d::text FROM dbopt_dead_letter d
	ORDER BY 1};

my $edit = q{
	UPDATE dbopt_retry_policy SET max_attempts = 2, base_delay = '1 h', max_delay = '1 h', jitter = 'none'
	 WHERE name = 'event';
	INSERT INTO dbopt_retry_policy (name, base_delay) VALUES ('mine', '3 s');
	INSERT INTO dbopt_retryable_error (policy, pattern, retryable) VALUES ('mine', 'cheese', true);
	UPDATE dbopt_retryable_error SET retryable = false WHERE sqlstate = '40001';
	UPDATE dbopt_index SET definition = '(lower(domain))' WHERE name = 'idx_organizations_domain';
	UPDATE dbopt_index SET enabled = false WHERE name = 'idx_api_keys_usage';
	SELECT dbopt_create_events('log', false);
	CREATE FUNCTION fail(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'DEAD' THEN RAISE division_by_zero; END IF;
		RAISE 'later';
	END $$;
	SELECT dbopt_register_handler('fail', '*', 'fail(log)');
	INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('DEAD', 'a', dbopt_uuid_v7(), '{}'), ('WAITS', 'a', dbopt_uuid_v7(), '{}');
};

$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION dbopt CASCADE');
my $fresh = $node->safe_psql('fresh', $members);
my $shipped = $node->safe_psql('fresh', $rows);
cmp_ok(scalar(() = $fresh =~ /^member/mg), '>', 80, 'a fresh one has many members');

$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('plain', "CREATE EXTENSION dbopt VERSION '1.0' CASCADE; ALTER EXTENSION dbopt UPDATE");
is($node->safe_psql('plain', $members), $fresh, 'the catalogue of an updated one is that of a fresh one');
is($node->safe_psql('plain', $rows), $shipped, '... and so are the rows that came with it');

$node->safe_psql('postgres', 'CREATE DATABASE edited');
$node->safe_psql('edited', "CREATE EXTENSION dbopt VERSION '1.0' CASCADE; $edit");
$node->poll_query_until('edited',
	'SELECT (SELECT count(*) FROM dbopt_dead_letters) = 1 AND (SELECT count(*) FROM dbopt_pending_retries) = 1')
  or die 'the events have not failed';
my $dump = PostgreSQL::Test::Utils::tempdir . '/old.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'edited' ], 'dumped at 1.0');
my $before = $node->safe_psql('edited', $rows);
$node->safe_psql('edited', 'ALTER EXTENSION dbopt UPDATE');
is($node->safe_psql('edited', $members), $fresh, 'the same where users have edited rows');
my %after = map { $_ => 1 } split /\n/, $node->safe_psql('edited', $rows);
is(join("\n", grep { !$after{$_} } split /\n/, $before), '', 'no row of theirs has changed');

# Dumps of both restore into the present version, and mean the same.
foreach my $case ([ 'from_old', $dump ], [ 'from_new', "$dump.new" ])
{
	my ($copy, $file) = @$case;

	$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, 'edited' ], 'dumped when updated') unless -e $file;
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $copy, $file ], "$copy: restored");
	is($node->safe_psql($copy, $members), $fresh, "$copy: the catalogue is that of a fresh one");
	is($node->safe_psql($copy, $rows), $node->safe_psql('edited', $rows), "$copy: the rows are the same");
}

# Another superuser updates, in a schema with an odd name.
$node->safe_psql('postgres', 'CREATE ROLE another SUPERUSER LOGIN; CREATE DATABASE odd');
$node->safe_psql('odd', q{CREATE SCHEMA "Odd Schema"; CREATE EXTENSION dbopt SCHEMA "Odd Schema" VERSION '1.0' CASCADE});
$node->safe_psql('odd', 'ALTER EXTENSION dbopt UPDATE', extra_params => [ '-U', 'another' ]);
$node->safe_psql('odd', 'CREATE TABLE seen (id uuid)');
$node->safe_psql('odd', q{
	SET search_path = "Odd Schema", public;
	SELECT dbopt_create_events('public.log', false);
	CREATE FUNCTION public.see(e public.log) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen VALUES (e.id)';
	SELECT dbopt_register_handler('see', '*', 'public.see(public.log)')});
$node->safe_psql('odd', q{INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
	VALUES ('A', 'a', gen_random_uuid(), '{}')});
is($node->safe_psql('odd', q{SELECT "Odd Schema".dbopt_drain(); SELECT count(*) FROM seen}),
	"t\n1", 'works when another superuser has updated it, in an odd schema');
$node->safe_psql('odd', 'DROP EXTENSION dbopt CASCADE');
is( $node->safe_psql('odd', q{SELECT count(*) FROM pg_class WHERE relnamespace = '"Odd Schema"'::regnamespace
		UNION ALL SELECT count(*) FROM pg_proc WHERE pronamespace = '"Odd Schema"'::regnamespace AND proname ~ 'dbopt'}),
	"0\n0", '... and leaves nothing behind');

# ---- the present library at 1.0 ----

# The regression tests that speak of nothing newer, with 1.0 wherever they
# create the extension.
my $delta = slurp_file("$root/sql/dbopt--1.0--1.1.sql");
$delta =~ s/^COMMENT ON .*?';$//gms; # other words for what was there
my %new = map { $_ => 1 } $delta =~ /\@extschema\@\.(\w+)/g;
my $directory = PostgreSQL::Test::Utils::tempdir;
my @tests;

mkdir "$directory/$_" foreach qw(sql expected);
foreach my $file (glob "$root/test/sql/*.sql")
{
	my ($name) = $file =~ m,(\w+)\.sql$,;
	my $text = slurp_file($file);

	next if $name eq 'extension' || grep { $new{$_} } $text =~ /\b(dbopt_\w+)/g;
	my $expected = slurp_file("$root/expected/$name.out");
	s/CREATE EXTENSION (IF NOT EXISTS )?dbopt\b/CREATE EXTENSION $1dbopt VERSION '1.0'/g foreach $text, $expected;
	append_to_file("$directory/sql/$name.sql", $text);
	append_to_file("$directory/expected/$name.out", $expected);
	push @tests, $name;
}
cmp_ok(scalar(@tests), '>', 3, 'there are tests for 1.0');
my $cwd = getcwd;
chdir $directory;
$node->command_ok(
	[ $ENV{PG_REGRESS}, '--inputdir=.', '--outputdir=.', '--dbname=at_1_0', '--bindir=', '--host=' . $node->host,
		'--port=' . $node->port, @tests ],
	'the present library passes them at 1.0')
  or diag(-e 'regression.diffs' ? slurp_file('regression.diffs') : 'no output');
chdir $cwd;

$node->stop;
done_testing();
