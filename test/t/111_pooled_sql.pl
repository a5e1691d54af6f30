# SQL of callers in pool sessions: results, errors, notices, cancels, deaths,
# deadlocks with oneself, and what is left for the next caller.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pooled_sql');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	deadlock_timeout = '50 ms'
	max_worker_processes = 16
	max_connections = 80
	dbopt.pool_max = 5
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

# What psql says of a statement that fails.
sub failure
{
	my ($statement) = @_;
	my ($status, $printed, $errors) =
	  $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");

	isnt($status, 0, 'it fails: ' . substr($statement, 0, 70));
	return $errors;
}

sql('CREATE EXTENSION dbopt CASCADE');
sql(q{CREATE TABLE note (id int PRIMARY KEY, t text); CREATE ROLE app LOGIN; CREATE SEQUENCE s});

# ---- results -------------------------------------------------------------

is(sql(q{SELECT * FROM dbopt_with_connection('SELECT $1 + 1 AS n, $2 AS "ä", $3::text[] AS a, $4::int AS x', ARRAY['41', 'ö''"', '{1,2}', NULL])}),
	q({"a": ["1", "2"], "n": 42, "x": null, "ä": "ö'\""}),
	'parameters get their types from where they stand');
is(sql(q{SELECT count(*) FROM dbopt_with_connection('INSERT INTO note VALUES (1, $1)', '{a}')}),
	0, 'no result, no rows');
is(sql(q{SELECT * FROM dbopt_with_connection('UPDATE note SET t = ''b'' RETURNING t AS other')}),
	'{"other": "b"}', 'the columns have the names of the query');
is(sql(q{SELECT * FROM dbopt_with_connection('SELECT 1 AS a; CREATE TABLE made (b int); INSERT INTO made VALUES (2) RETURNING b')}),
	'{"b": 2}', 'of several statements the last one gives the result');
sql(q{SELECT dbopt_with_connection('VACUUM note')});
sql(q{BEGIN; SELECT dbopt_with_connection('INSERT INTO note VALUES (2)'); ROLLBACK});
is(sql('SELECT count(*) FROM note'), 2, 'it commits by itself');
is(sql(q{SELECT count(*) FROM dbopt_with_connection('SELECT i, repeat(''x'', 50) AS t FROM generate_series(1, 1000000) i')}),
	1000000, 'a million rows');
is(sql(q{SELECT * FROM dbopt_with_transaction(ARRAY['INSERT INTO note VALUES (3)', 'SHOW transaction_isolation'])}),
	'{"transaction_isolation": "serializable"}', 'a transaction');
failure(q{SELECT dbopt_with_transaction(ARRAY['INSERT INTO note VALUES (4)', 'SELECT 1/0'])});
is(sql('SELECT count(*) FROM note'), 3, 'all of it or nothing');
is(sql(q{SET search_path = pg_catalog; SET timezone = 'Asia/Tokyo'; SELECT * FROM public.dbopt_with_connection('SELECT current_schemas(false) AS p, current_setting(''timezone'') AS z')}),
	'{"p": ["pg_catalog"], "z": "Asia/Tokyo"}', 'some settings are the caller\'s');

# Those that tell what a statement means and how values look, and no others.
sub settings_of
{
	return 'pg_catalog.jsonb_build_object(' . join(', ', map { "'$_', pg_catalog.current_setting('$_')" } sort @_) . ')';
}

my %taken = (
	search_path => 'pg_catalog, pg_temp', row_security => 'off', standard_conforming_strings => 'off', timezone => q{'Asia/Tokyo'},
	datestyle => q{'German, DMY'}, intervalstyle => 'iso_8601', extra_float_digits => '0', bytea_output => 'escape',
	client_min_messages => 'error', lock_timeout => q{'77 s'});
my $taken = settings_of(keys %taken);
is( sql(join('', map { "SET $_ = $taken{$_}; " } sort keys %taken)
		  . "SELECT r -> 's' = $taken FROM public.dbopt_with_connection(\$q\$SELECT $taken AS s\$q\$) r"),
	't', 'all of these');
# Each at once when it changes, and when that is taken back.
foreach my $setting ((map { [ $_, $taken{$_} ] } sort keys %taken), [ 'datestyle', q{'ISO, DMY'} ])
{
	my ($name, $value) = @$setting;
	my $same = "SELECT r ->> 's' = current_setting('$name') FROM public.dbopt_with_connection(\$q\$SELECT current_setting('$name') AS s\$q\$) r";

	is(sql("$same; BEGIN; SET LOCAL $name = $value; $same; ROLLBACK; $same"), "t\nt\nt", "$name, before, while and after it is $value");
}
my %left = (work_mem => q{'7 MB'}, statement_timeout => q{'100 s'}, default_transaction_isolation => q{'serializable'}, application_name => q{'mine'});
my $left = settings_of(keys %left);
is( sql(join('', map { "SET $_ = $left{$_}; " } sort keys %left) . "SELECT r -> 's' FROM dbopt_with_connection(\$q\$SELECT $left AS s\$q\$) r"),
	'{"work_mem": "4MB", "application_name": "dbopt session", "statement_timeout": "0", "default_transaction_isolation": "read committed"}',
	'and no others');

# The session's own are those of the configuration that it has read last.
my $default = sql('SHOW timezone');
my $zone = q{SELECT r ->> 'zone' FROM dbopt_with_connection('SELECT current_setting(''timezone'') AS zone') r};
is(sql($zone), $default, 'a caller with what is the default');
sql($_) foreach (q{ALTER SYSTEM SET timezone = 'Asia/Tokyo'}, q{ALTER SYSTEM SET work_mem = '5MB'}, 'SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT dbopt_with_connection('SHOW work_mem')}, '{"work_mem": "5MB"}'), 'the session reads the configuration again');
is(sql("SET timezone = '$default'; $zone"), $default, 'a caller with what was the default');
sql($_) foreach (q{ALTER SYSTEM RESET timezone}, q{ALTER SYSTEM RESET work_mem}, 'SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT dbopt_with_connection('SHOW work_mem')}, '{"work_mem": "4MB"}'), '... and again');

# ---- errors --------------------------------------------------------------

like(failure(q{SELECT dbopt_with_connection('DO $$BEGIN RAISE EXCEPTION ''m'' USING ERRCODE = ''AB123'', DETAIL = ''d'', HINT = ''h''; END$$')}),
	qr/ERROR:  AB123: m\nDETAIL:  d\nHINT:  h\nCONTEXT:  PL.pgSQL function inline/, 'errors are as raised');
like(failure(q{SELECT dbopt_with_connection('SELECT 1, nothing')}),
	qr/ERROR:  42703: .*\nLINE 1: SELECT 1, nothing\n *\^/, 'and point into the statement');
my ($status, $printed, $notices) = $node->psql('postgres',
	q{SELECT dbopt_with_connection('DO $$BEGIN RAISE NOTICE ''hello''; END$$')});
like($notices, qr/NOTICE:  hello/, 'notices are passed on');
like(failure(q{SET statement_timeout = '200 ms'; SELECT dbopt_with_connection('SELECT pg_sleep(600) -- work')}),
	qr/ERROR:  57014/, 'statement_timeout holds');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM dbopt_pool_sessions() WHERE state = 'busy'}),
	'and the session stops, too');
like(failure(q{SELECT dbopt_with_connection('SELECT pg_terminate_backend(pg_backend_pid())')}),
	qr/ERROR:  08006/, 'the end of the session is an error');
like(failure(q{BEGIN; LOCK TABLE note; SELECT dbopt_with_connection('SELECT * FROM note')}),
	qr/ERROR:  40P01/, 'waiting for oneself is a deadlock');
like(failure(q{BEGIN; LOCK TABLE note; SELECT dbopt_with_connection('SELECT dbopt_with_connection(''SELECT * FROM note'')')}),
	qr/ERROR:  40P01: .*\nDETAIL:  Process (\d+) waits for its pool session; process (\d+) waits for process \g1; process \d+ waits for process \g2\.\n/,
	'... by way of another session as well, and it is told who waits for whom');

# ---- roles and leaks -----------------------------------------------------

is(sql(q{SET ROLE app; SELECT * FROM dbopt_with_connection('SELECT session_user::text AS s')}),
	'{"s": "app"}', 'the session is logged in as the current role');
sql(q{SELECT dbopt_with_connection('SELECT nextval(''s''), pg_advisory_lock(1); SET work_mem = ''1 GB''; CREATE TEMP TABLE mine (a int); PREPARE p AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1; SET ROLE app')});
is(sql(q{SELECT * FROM dbopt_with_connection('SELECT current_user = session_user AS r, to_regclass(''mine'') AS t, current_setting(''work_mem'') = ''1GB'' AS w,
		(SELECT count(*) FROM pg_listening_channels()) + (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_cursors WHERE name = ''c'')
		+ (SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'') AS n')}),
	'{"n": 0, "r": true, "t": null, "w": false}', 'nothing is left for the next one');
like(failure(q{SELECT dbopt_with_connection('SELECT lastval()')}), qr/ERROR:  55000/, 'nor the last value');

# ---- many callers --------------------------------------------------------

$node->pgbench('-n -c 50 -j 2 -t 4', 0, [qr/processed: 200\/200/], [qr/^$/], '50 callers on a pool of 5',
	{ 'callers' => q{SELECT count(*) FROM dbopt_with_connection('SELECT 1');} });
is(sql(q{SELECT count(*) <= 5 FROM dbopt_pool_sessions()}), 't', 'have at most 5 sessions');
is(sql(q{SELECT count FROM dbopt_pool_events() WHERE event = 'acquireFail'}), 0, 'each has got one');

sql(q{ALTER SYSTEM SET dbopt.pool_max = 1; ALTER SYSTEM SET dbopt.pool_acquire_timeout = '300 ms'; SELECT pg_reload_conf()});
like(failure(q{SELECT dbopt_with_connection('SELECT dbopt_with_connection(''SELECT 1'')')}),
	qr/ERROR:  53300: no pool session.*\nDETAIL:  All sessions are in use \(1\): a caller of role/, 'no session in time, and why');

$node->stop;
done_testing();
