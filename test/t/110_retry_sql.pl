# Retrying in SQL in the caller's own session: conflicts and deadlocks are
# overcome, and what cannot be is told.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('retry_sql');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	deadlock_timeout = '20 ms'
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
	my ($status, $printed, $errors) = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSET client_min_messages = error;\n$statement");

	isnt($status, 0, "it fails: $statement");
	return $errors;
}

# pgbench runs a script as some clients at a time; all must succeed.
sub run_clients
{
	my ($clients, $transactions, $script, $name) = @_;
	my $file = $node->basedir . '/script.sql';

	append_to_file($file, $script);
	$node->command_ok(
		[
			'pgbench', '-n', '-d', 'postgres', '-c', $clients, '-j', 2,
			'-t', $transactions, '-f', $file
		],
		$name);
	unlink $file;
	return;
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL);
	INSERT INTO account SELECT i, 1000 FROM generate_series(1, 4) i;
	CREATE TABLE tried (note text);
	CREATE SEQUENCE tries;
});

# ---- conflicts -----------------------------------------------------------

sql(q{UPDATE dbopt_retry_policy SET max_attempts = 100, base_delay = '2 ms', max_delay = '100 ms'
	WHERE name = 'transaction'});
run_clients(
	8, 15, q{
\set from random(1, 4)
\set to random(1, 4)
CALL dbopt_with_transaction_retry($$
	SELECT nextval('tries');
	UPDATE account SET amount = (SELECT amount FROM account WHERE id = :from) - 7 WHERE id = :from;
	UPDATE account SET amount = (SELECT amount FROM account WHERE id = :to) + 7 WHERE id = :to;
$$)}, '8 sessions of conflicting transfers: each succeeds');
is(sql('SELECT sum(amount) FROM account'), 4000, 'and the sum is right');
cmp_ok(sql('SELECT last_value FROM tries'),
	'>', 120, 'although some had to be tried again');

# Each of the two locks a row and waits until the other has locked its own.
sql(q{
	CREATE SEQUENCE locked;
	CREATE FUNCTION meet() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE patience timestamptz := clock_timestamp() + interval '180 s';
	BEGIN
		PERFORM nextval('locked');
		WHILE (SELECT last_value < 2 FROM locked) AND clock_timestamp() < patience LOOP
			PERFORM pg_sleep(0.002); -- work
		END LOOP;
	END $$;
	UPDATE account SET amount = 1000;
	UPDATE dbopt_retry_policy SET max_attempts = 100 WHERE name = 'database';
});
run_clients(
	2, 1, q{
\set one :client_id + 1
\set two 2 - :client_id
CALL dbopt_with_database_retry($$
	UPDATE account SET amount = amount - 1 WHERE id = :one;
	SELECT meet();
	UPDATE account SET amount = amount + 1 WHERE id = :two;
$$)}, 'both of a deadlock succeed');
is(sql('SELECT string_agg(amount::text, chr(32) ORDER BY id) FROM account'),
	'1000 1000 1000 1000', 'both have done their work once');
cmp_ok(sql('SELECT last_value FROM locked'), '>=', 3, 'one of them had to try again');

# ---- transactions of their own -------------------------------------------

sql(q{
	CREATE FUNCTION fail_twice(state text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('tries');
		INSERT INTO tried VALUES (concat_ws(' ', (SELECT count(*) FROM tried),
			current_setting('transaction_isolation')));
		IF (SELECT last_value FROM tries) < 3 THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = state;
		END IF;
	END $$;
	ALTER SEQUENCE tries RESTART;
	UPDATE dbopt_retry_policy SET max_attempts = 3, base_delay = '1 ms' WHERE name IN ('database', 'transaction');
});
sql(q{CALL dbopt_with_transaction_retry('SELECT fail_twice(''40001'')', 'REPEATABLE READ')});
is(sql('SELECT * FROM tried'),
	'0 repeatable read',
	'what failed is rolled back; the isolation level is the one wanted');
sql(q{ALTER SEQUENCE tries RESTART; TRUNCATE tried});
sql(q{SET default_transaction_isolation = 'repeatable read'; CALL dbopt_with_database_retry('SELECT fail_twice(''40001'')')});
is(sql('SELECT * FROM tried'),
	'0 repeatable read',
	'dbopt_with_database_retry() takes the level of the session');

# A failure that only COMMIT sees.
sql(q{
	ALTER SEQUENCE tries RESTART;
	TRUNCATE tried;
	CREATE FUNCTION fail_late() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM fail_twice(''40001''); RETURN NULL; END';
	CREATE TABLE late (id int);
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION fail_late();
});
sql(q{CALL dbopt_with_database_retry('INSERT INTO late VALUES (1)')});
is(sql('SELECT count(*) FROM late'), 1, 'a COMMIT that fails is tried again');

# From a procedure, in a loop: what it did before is committed first.
sql(q{
	TRUNCATE late, tried;
	CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO tried VALUES ('before');
		FOR i IN 1 .. 3 LOOP
			CALL dbopt_with_transaction_retry(format('INSERT INTO tried VALUES (%L)', i));
		END LOOP;
		ROLLBACK;
	END $$;
	CALL work();
});
is(sql(q{SELECT string_agg(note, ' ' ORDER BY ctid) FROM tried}),
	'before 1 2 3', 'procedures can call it, too');

# ---- what is told at last ------------------------------------------------

sql(q{UPDATE dbopt_retry_policy SET base_delay = '30 ms', jitter = 'none' WHERE name = 'database'});
my $errors = failure(
	q{CALL dbopt_with_database_retry('DO $$ BEGIN
		RAISE EXCEPTION ''no luck'' USING ERRCODE = ''40001'', DETAIL = ''It rains.'', HINT = ''Wait.''; END $$')}
);
like($errors, qr/ERROR:  40001: no luck/, 'SQLSTATE and message are its own');
like(
	$errors,
	qr/DETAIL:  It rains\.\nAttempts: 3\. Total delay: 90 ms\.\nHINT:  Wait\./,
	'the detail tells attempts and delay');
like(
	failure(q{CALL dbopt_with_database_retry('SELECT 1/0')}),
	qr/ERROR:  22012: .*Attempts: 1\. Total delay: 0 ms/s,
	'what is not worth it is not tried again');
like(
	failure(q{CALL dbopt_with_database_retry('SELECT 1, nothing FROM account')}),
	qr/ERROR:  42703: .*LINE 1: SELECT 1, nothing FROM account\n *\^.*QUERY:  SELECT 1/s,
	'a position is one in the statement');

# A cancel is an order, although 57014 is retryable elsewhere.
sql(q{ALTER SEQUENCE tries RESTART; UPDATE dbopt_retry_policy SET base_delay = '1 h', max_delay = '1 h' WHERE name = 'database'});
like(
	failure(q{CALL dbopt_with_database_retry('SELECT nextval(''tries''); SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(600) -- work')}),
	qr/ERROR:  57014: .*Attempts: 1\./s,
	'a statement that is cancelled is not repeated');
is(sql('SELECT last_value FROM tries'), 1, 'it ran once');
like(
	failure(q{SET statement_timeout = '300 ms'; CALL dbopt_with_database_retry('SELECT fail_twice(''40001'')')}),
	qr/ERROR:  57014/,
	'the wait can be interrupted');

# ---- bad input -----------------------------------------------------------

my $retry = 'CALL dbopt_with_transaction_retry';
like(failure("BEGIN; $retry('SELECT 1')"), qr/ERROR:  2D000/, 'in a block');
sql(qq{CREATE FUNCTION calls() RETURNS void LANGUAGE plpgsql AS 'BEGIN $retry(''SELECT 1''); END'});
like(failure('SELECT calls()'), qr/ERROR:  2D000/, 'in a function');
like(failure("$retry('')"), qr/ERROR:  22023/, 'an empty text');
like(failure("$retry(' ; -- nothing')"), qr/ERROR:  22023/, 'nothing in it');
like(failure("$retry(NULL)"), qr/ERROR:  22004/, 'NULL');
like(failure("$retry('SELECT 1', NULL)"), qr/ERROR:  22004/, 'no level');
like(failure("$retry('SELECT 1', 'chaos')"), qr/ERROR:  22023/, 'chaos');
like(failure("$retry('DELETE FROM account; COMMIT')"),
	qr/ERROR:  2D000/, 'transaction control');
like(failure("$retry('COPY account TO STDOUT')"), qr/ERROR:  0A000/, 'COPY');
like(failure("$retry('DELETE FROM account; DO ''BEGIN COMMIT; END''')"),
	qr/ERROR:  2D000/, 'transaction control in a block of code');
like(failure("$retry('DELETE FROM account; SELECT 1 +')"),
	qr/ERROR:  42601/, 'a syntax error in the second of two statements');
is(sql('SELECT count(*) FROM account'), 4, 'none of them did anything');
sql("$retry(repeat(' ', 10000000) || 'INSERT INTO late VALUES (2)')");
is(sql('SELECT count(*) FROM late'), 1, 'a text of 10 MB');

$node->stop;
done_testing();
