# What callers must not do in a pool session, or cannot: each is refused with
# its SQLSTATE, does nothing, and leaves the session, the breaker and the next
# call alone; in databases of several encodings; and texts of 10 MB.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('bad_calls');
$node->init(extra => [ '-E', 'UTF8', '--no-locale' ]);
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	max_prepared_transactions = 5
	fsync = off
	dbopt.pool_min = 0
	dbopt.pool_max = 1
	dbopt.pool_idle_timeout = '1 h'
});
$node->start;
asking($node);

# What a statement gives: its SQLSTATE, and what it prints.
sub outcome
{
	my ($statement, $db) = @_;
	my ($status, $printed, $errors) = $node->psql($db // 'postgres', "$statement;\n\\echo :SQLSTATE", on_error_stop => 0);
	my ($rows, $code) = $printed =~ /\A(?:(.*)\n)?(\w{5})\z/s;

	return ($code, $rows // '', $errors);
}

# A text as a literal, whatever is in it; a list of them as an array.
sub literal
{
	my ($text) = @_;

	return ref $text ? 'ARRAY[' . join(', ', map { literal($_) } @$text) . ']::text[]' : "\$q\$$text\$q\$";
}

my $setup = q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE note (id int PRIMARY KEY DEFAULT 1 CHECK (id < 10), t text);
	CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
};
sql($setup);

# All that follows is in one session.
my $session = sql(q{SELECT * FROM dbopt_with_connection('SELECT pg_backend_pid() AS p')});

sub nothing_has_happened
{
	my ($name) = @_;

	is( sql(q{SELECT count(*), (SELECT * FROM dbopt_with_connection('SELECT pg_backend_pid() AS p')) FROM note}),
		"0|$session", "$name: nothing was done, and the session serves the next caller");
	is( sql(q{SELECT state, consecutive_failures FROM dbopt_circuit_breakers() WHERE name = 'database'}),
		'CLOSED|0', "$name: which is nothing to the breaker");
	return;
}

# ---- statements ----------------------------------------------------------

# Each by itself, and after another one of the same text, which is rolled back.
my $before = 'INSERT INTO note DEFAULT VALUES';
my %refused = (
	(map { $_ => '2D000' } (
		'BEGIN', 'START TRANSACTION READ ONLY', 'COMMIT', 'COMMIT AND CHAIN', 'END', 'ROLLBACK', 'ABORT', 'SAVEPOINT s',
		'RELEASE s', 'ROLLBACK TO s', q{PREPARE TRANSACTION 'p'}, q{COMMIT PREPARED 'p'}, q{ROLLBACK PREPARED 'p'},
		'CALL commits()', q{DO 'BEGIN COMMIT; END'}, q{DO 'BEGIN ROLLBACK; END'})),
	(map { $_ => '0A000' } (
		'COPY note TO STDOUT', 'COPY note TO STDOUT (FORMAT binary)', 'COPY (SELECT 1) TO STDOUT', 'COPY note FROM STDIN')),
	'SELECT 1 +' => '42601',
	'SELECT nothing' => '42703',
	'SELECT 1/0' => '22012',
	'SELECT $1' => '42P02',
	'EXECUTE nothing' => '26000',
	'FETCH nothing' => '34000',
	q{SELECT E'\xff'} => '22021',
	q{SELECT convert_from('\xc328', 'UTF8')} => '22021',
	q{SELECT chr(0)} => '54000');
my %forms = (
	'dbopt_with_connection' => sub { "SELECT dbopt_with_connection(" . literal($_[0]) . ")" },
	'dbopt_with_connection, after another' => sub { "SELECT dbopt_with_connection(" . literal("$before; $_[0]; $before") . ")" },
	'dbopt_with_transaction' => sub { "SELECT dbopt_with_transaction(" . literal([ $_[0] ]) . ")" },
	'dbopt_with_transaction, among others' =>
	  sub { "SELECT dbopt_with_transaction(" . literal([ $before, $_[0], 'SELECT 1' ]) . ")" });
foreach my $form (sort keys %forms)
{
	foreach my $statement (sort keys %refused)
	{
		is((outcome($forms{$form}->($statement)))[0], $refused{$statement}, "$form: $statement");
	}
	nothing_has_happened($form);
}
foreach my $empty ('', '   ', ';;', "\n\t;", '-- nothing', '/* nothing */')
{
	is((outcome("SELECT dbopt_with_connection(" . literal($empty) . ')'))[0], '22023', "empty: '$empty'");
	is((outcome("SELECT dbopt_with_transaction(" . literal([ $before, $empty ]) . ')'))[0], '22023', '... or among others');
}
nothing_has_happened('empty statements');

# ---- arguments -----------------------------------------------------------

my %arguments = (
	q{dbopt_with_connection(NULL)} => '22004',
	q{dbopt_with_connection('SELECT 1', NULL)} => '22004',
	q{dbopt_with_connection('SELECT 1', '{a}')} => '42P02',
	q{dbopt_with_connection('SELECT $1, $2', '{a}')} => '42P02',
	q{dbopt_with_connection('SELECT $2', '{a,b}')} => '42P18',
	q{dbopt_with_connection('SELECT $0', '{a}')} => '42P02',
	q{dbopt_with_connection('SELECT $1::int', '{a}')} => '22P02',
	q{dbopt_with_connection('SELECT $1', '{{a},{b}}')} => '2202E',
	q{dbopt_with_connection('SELECT 1; SELECT $1', '{a}')} => '42601',
	q{dbopt_with_connection('SELECT 1', array_fill('x'::text, ARRAY[70000]))} => '42P02',
	q{dbopt_with_transaction(NULL)} => '22004',
	q{dbopt_with_transaction('{}')} => '22023',
	q{dbopt_with_transaction('{SELECT 1, NULL}')} => '22004',
	q{dbopt_with_transaction('{{SELECT 1},{SELECT 2}}')} => '2202E',
	q{dbopt_with_transaction('{SELECT 1}', NULL)} => '22004',
	q{dbopt_with_transaction('{SELECT 1}', 'chaos')} => '22023',
	q{dbopt_with_transaction('{SELECT 1}', '')} => '22023',
	q{dbopt_with_transaction('{SELECT 1}', repeat('x', 1000000))} => '22023');
is((outcome("SELECT $_"))[0], $arguments{$_}, $_) foreach sort keys %arguments;
nothing_has_happened('arguments');
is((outcome(q{SELECT dbopt_with_connection('SELECT $1::text IS NULL AS n', '{NULL}')}))[1], '{"n": true}', 'a null among the parameters is one');
foreach my $level ('serializable', 'repeatable read', 'read committed', 'read uncommitted')
{
	is((outcome("SELECT dbopt_with_transaction('{SHOW transaction_isolation}', upper('$level'))"))[1],
		qq({"transaction_isolation": "$level"}), "isolation: $level");
}

# ---- many and large ------------------------------------------------------

is( sql(q{SELECT * FROM dbopt_with_connection((SELECT string_agg('SELECT ' || i || ' AS a', ';') FROM generate_series(1, 10000) i))}),
	'{"a": 10000}', '10,000 statements in a text');
is( sql(q{SELECT * FROM dbopt_with_transaction((SELECT array_agg('SELECT ' || i || ' AS a') FROM generate_series(1, 10000) i))}),
	'{"a": 10000}', 'and in an array');
my $large = q{repeat('x', 10000000)};
is(sql(q{SELECT * FROM dbopt_with_connection(repeat(' ', 10000000) || 'SELECT 1 AS a')}), '{"a": 1}', 'a statement of 10 MB');
is( sql("SELECT md5(x ->> 'a') = md5($large) FROM dbopt_with_connection('SELECT ''' || $large || ''' AS a') x"),
	't', '... with a value of that size, which comes back');
is( sql("SELECT md5(x ->> 'a') = md5($large) FROM dbopt_with_connection('SELECT \$1 AS a', ARRAY[$large]) x"),
	't', 'a parameter of 10 MB');
is( sql("SELECT * FROM dbopt_with_transaction(ARRAY[repeat(' ', 10000000) || 'SELECT 1', repeat(' ', 10000000) || 'SELECT 2 AS a'])"),
	'{"a": 2}', 'two statements of 10 MB');

# In PL/pgSQL, so that psql need not print it.
sql(q{CREATE FUNCTION error_of(statement text, OUT code text, OUT message text) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM dbopt_with_connection(statement);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	END $$});
is( sql(q{SELECT code, length(message) FROM error_of($q$DO 'BEGIN RAISE EXCEPTION ''%'', repeat(''x'', 10000000); END'$q$)}),
	'P0001|10000000', 'an error of 10 MB');
is(sql(q{SELECT code FROM error_of(repeat(' ', 10000000) || 'SELECT 1 +')}), '42601', 'an error at the end of 10 MB');
nothing_has_happened('large texts');

# ---- encodings -----------------------------------------------------------

my $e_utf8 = "\xc3\xa9";
my $e_latin = "\xe9";

# Whatever the statement sets, the caller gets its own encoding, or is told
# that it cannot have it.
my ($code, $rows, $errors) = outcome(
	qq{SELECT dbopt_with_connection(\$q\$SET client_encoding = 'LATIN1'; SELECT '$e_utf8' AS "$e_utf8"\$q\$)});
is("$code $rows", qq(00000 {"$e_utf8": "$e_utf8"}), 'a client encoding that the statement has set: the rows');
($code, $rows, $errors) = outcome(
	qq{SELECT dbopt_with_connection(\$q\$SET client_encoding = 'LATIN1'; DO 'BEGIN RAISE NOTICE ''$e_utf8''; RAISE EXCEPTION ''$e_utf8''; END'\$q\$)});
is($code, 'P0001', '... the error');
like($errors, qr/NOTICE:  \(text in another encoding\)\n.*ERROR:  $e_utf8\n/, '... and texts, none of which is invalid');

($code, $rows, $errors) = outcome(
	qq{\\set VERBOSITY verbose\nSELECT dbopt_with_connection(\$q\$SET client_encoding = 'LATIN1'; DO 'BEGIN
		RAISE NOTICE USING MESSAGE = ''n'', SCHEMA = ''$e_utf8'', TABLE = ''$e_utf8'', COLUMN = ''$e_utf8'', DATATYPE = ''$e_utf8'', CONSTRAINT = ''$e_utf8''; END'\$q\$)});
is(scalar(() = $errors =~ /^\w+ NAME:  \(text in another encoding\)$/mg), 5, '... and names, none of which is, either');

# What is no text at all does not get as far as the function.
is((outcome("SELECT dbopt_with_connection('SELECT ''$e_latin''')"))[0], '22021', 'bytes that are no UTF-8');
is((outcome("SELECT dbopt_with_connection('SELECT \$1', ARRAY['$e_latin'])"))[0], '22021', '... in a parameter');
nothing_has_happened('invalid bytes');

# One that has fewer characters than its clients; and one that takes any bytes.
foreach my $case ([ 'latin', 'LATIN1', 'UTF8', $e_utf8 ], [ 'bytes', 'SQL_ASCII', 'SQL_ASCII', $e_latin ])
{
	my ($db, $encoding, $client, $character) = @$case;
	my $as = "SET client_encoding = '$client'; ";

	sql("CREATE DATABASE $db ENCODING '$encoding' TEMPLATE template0 LOCALE 'C'");
	$node->safe_psql($db, $setup);
	is( (outcome(qq{${as}SELECT dbopt_with_connection('SELECT ''$character'' AS "$character"')}, $db))[1],
		qq({"$character": "$character"}), "$encoding: a statement, its rows and their names");
	is( (outcome(qq{${as}SELECT dbopt_with_connection('SELECT \$1 AS a', ARRAY['$character'])}, $db))[1],
		qq({"a": "$character"}), "$encoding: a parameter");
	($code, $rows, $errors) =
	  outcome(qq{${as}SELECT dbopt_with_connection(\$q\$DO 'BEGIN RAISE NOTICE ''$character''; RAISE EXCEPTION ''$character''; END'\$q\$)}, $db);
	is($code, 'P0001', "$encoding: an error");
	like($errors, qr/NOTICE:  $character\n.*ERROR:  $character\n/s, "$encoding: with its text, as a notice has it");
	($code, $rows, $errors) = outcome(qq{${as}SELECT dbopt_with_connection('SELECT ''$character'' AS a, nothing')}, $db);
	like($errors, qr/LINE 1: SELECT '$character' AS a, nothing\n/, "$encoding: and a position");
}
is((outcome(q{SET client_encoding = 'UTF8'; SELECT dbopt_with_connection('SELECT ''€''')}, 'latin'))[0],
	'22P05', 'LATIN1: a character that it does not have');
is((outcome(q{SELECT dbopt_with_connection('SELECT E''\x00''')}, 'bytes'))[0], '22021', 'SQL_ASCII: the one byte that it does not take');

# ---- callers -------------------------------------------------------------

sql(q{CREATE ROLE nologin; CREATE ROLE shut LOGIN; CREATE ROLE app LOGIN; CREATE TABLE one (i int); INSERT INTO one VALUES (1);
	CREATE FUNCTION call(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT x::text FROM public.dbopt_with_connection('SELECT 1') x$$;
	REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO nologin, app});
my $call = q{SELECT dbopt_with_connection('SELECT session_user AS name')};

# From 17 on a background worker may be one of such a role.
is((outcome("SET ROLE nologin; $call"))[0], $node->pg_version < 17 ? '55000' : '00000', 'a role that cannot log in');
is((outcome("SET ROLE shut; $call"))[0], '42501', 'one that may not connect to the database');
is((outcome(q{CREATE MATERIALIZED VIEW made AS SELECT call(i) FROM one}))[0], '42501', 'a materialized view');
is((outcome(q{CREATE INDEX made ON one (call(i))}))[0], '42501', 'an index on an expression');

# One that should not be called in a parallel worker, and is said to be fit for it.
my $parallel = $node->pg_version < 16 ? 'force_parallel_mode' : 'debug_parallel_query';
sql(q{ALTER FUNCTION call(int) PARALLEL SAFE});
($code, $rows, $errors) = outcome(q{SET } . $parallel . q{ = on; SET jit = off; SELECT call(i) FROM one});
is($code, '25000', 'a parallel worker');
like($errors, qr/ERROR:  cannot use a pool session during a parallel operation\n.*HINT:  .*PARALLEL UNSAFE/s, '... is refused, and told how to mend it');
is((outcome("SET ROLE app; $call"))[1], '{"name": "app"}', 'another role is served');
sql(q{ALTER ROLE app SET client_encoding = 'LATIN1'});
($code, $rows, $errors) = outcome(
	qq{SET ROLE app; SELECT dbopt_with_connection(\$q\$SET client_encoding = 'LATIN1'; DO 'BEGIN RAISE EXCEPTION ''$e_utf8''; END'\$q\$)});
like($errors, qr/ERROR:  $e_utf8\n/, 'one with a client encoding of its own, too');
is((outcome($call))[1], '{"name": "postgres"}', 'and the first one again');

$node->stop;
done_testing();
