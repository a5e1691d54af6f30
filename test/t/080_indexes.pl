# The pool builds declared indexes: concurrently, as the table's owner, one at
# a time, and again after a failure; what stands in the way is said.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('indexes');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
dbopt.index_inline_pages = 0
restart_after_crash = on
max_worker_processes = 16
autovacuum = off
});
$node->start;

sub status
{
	my ($name, $database) = @_;
	return $node->safe_psql($database // 'postgres',
		"SELECT status FROM dbopt_index_status() WHERE name = '$name'");
}

sub wait_status
{
	my ($name, $status, $what) = @_;
	ok( $node->poll_query_until(
			'postgres', "SELECT '$status' = (SELECT status FROM dbopt_index_status() WHERE name = '$name')"),
		$what);
	return;
}

sub invalid_indexes
{
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)");
}

# A transaction that may have written to a table, and holds a build up.
sub block
{
	my ($table) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; LOCK TABLE $table IN ROW EXCLUSIVE MODE");
	return $session;
}

sub waits
{
	my ($name, $what) = @_;
	ok( $node->poll_query_until(
			'postgres',
			"SELECT status = 'building' AND reason ~ '^it waits for process [0-9]+ \\(' FROM dbopt_index_status() WHERE name = '$name'"
		),
		$what);
	return;
}

my $builder = "SELECT pid FROM dbopt_pool_sessions() WHERE job = 'index'";

# CREATE EXTENSION queues what is not small, and the pool builds it.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE owner LOGIN;
	GRANT CREATE ON SCHEMA public TO owner;
	CREATE ROLE nologin_owner;
	CREATE TABLE users (id int, email text, first_name text, last_name text, status text, role text,
		last_login_at timestamptz);
	INSERT INTO users SELECT i, 'user' || i, 'first', 'last', 'active', 'member', now()
		FROM generate_series(1, 20000) i;
	ALTER TABLE users OWNER TO owner;
	CREATE TABLE organizations (name text, domain text);
	INSERT INTO organizations SELECT 'name ' || i, 'domain' || i FROM generate_series(1, 5000) i;
	ALTER TABLE organizations OWNER TO nologin_owner;
	CREATE INDEX idx_users_status_role ON users (role);
	CREATE EXTENSION dbopt CASCADE;
});
foreach my $name (
	qw(idx_users_email_lower idx_users_name_search idx_users_status_role idx_users_login_activity
	idx_organizations_name_trgm idx_organizations_domain))
{
	wait_status($name, 'valid', "$name was built");
}
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
		WHERE i.indrelid = 'users'::regclass AND c.relowner <> 'owner'::regrole}),
	0, 'they belong to the owner of the table');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '^dbopt_(new|old)'}),
	0, 'the different one was replaced without a trace');

# What an owner who cannot log in has declared runs functions of his with his
# rights alone, though a superuser's session builds it.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA s AUTHORIZATION nologin_owner;
	GRANT INSERT ON dbopt_index TO nologin_owner;
	SET ROLE nologin_owner;
	CREATE TABLE s.trap AS SELECT 1 AS a;
	CREATE FUNCTION s.spring(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'nologin_owner' THEN RAISE LOG 'sprung as %', current_user; END IF;
		RETURN true;
	END $$;
	CREATE DOMAIN s.sprung_text AS text CHECK (s.spring(VALUE));
	CREATE TYPE s.sprung AS (x s.sprung_text);
	INSERT INTO dbopt_index VALUES ('trap_a', 's.trap', $$(a) WHERE s.spring(a::text) AND '(x)'::s.sprung IS NOT NULL$$);
	RESET ROLE;
	CALL dbopt_ensure_indexes('s.trap', true);
});
is(status('trap_a'), 'valid', 'the index of an owner who cannot log in is built');
unlike(slurp_file($node->logfile), qr/LOG:  sprung as/, 'and runs his functions as him');
$node->safe_psql('postgres', q{DELETE FROM dbopt_index WHERE name = 'trap_a'; DROP SCHEMA s CASCADE});

# A key that is there twice is told, and is not tried again.
$node->safe_psql(
	'postgres', q{
	INSERT INTO users (email) VALUES ('twice'), ('twice');
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('unique_email', 'users', '(email)', true);
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('plain_id', 'users', '(id)');
});
my ($ret, $out, $err) = $node->psql('postgres', "CALL dbopt_ensure_indexes('users', true)");
like($err, qr/index "unique_email" could not be built.*Key \(email\)=\(twice\) is duplicated/, 'the call tells the key');
is( $node->safe_psql('postgres',
		q{SELECT status, last_error ~ 'twice' FROM dbopt_index_status() WHERE name = 'unique_email'}),
	'failed|t',
	'so does the status');
is(status('plain_id'), 'valid', 'and the rest is built');
is(invalid_indexes(), 0, 'no invalid index is left');
$node->safe_psql('postgres', q{CREATE ROLE monitor LOGIN IN ROLE pg_monitor});
$node->safe_psql('postgres', q{CREATE ROLE watcher LOGIN; GRANT EXECUTE ON FUNCTION dbopt_index_status TO watcher});
is( $node->safe_psql(
		'postgres', q{SET ROLE watcher; SELECT count(last_error) FROM dbopt_index_status()}),
	0, 'an error is not for everybody');
$node->safe_psql('postgres', q{DELETE FROM users WHERE email = 'twice'; CALL dbopt_ensure_indexes('users', true)});
is(status('unique_email'), 'valid', 'when it is mended the index is built');

# A build that waits says for whom, though a lock time-out is set; when it is
# cancelled it begins again.
$node->safe_psql(
	'postgres', q{
	ALTER ROLE owner SET lock_timeout = '50ms';
	ALTER ROLE owner SET statement_timeout = '50ms';
	INSERT INTO dbopt_index (name, table_name, definition) VALUES ('cancelled', 'users', '(email, id)');
});
my $blocker = block('users');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('users')});
waits('cancelled', 'a build that waits says for whom');
my $pid = $node->safe_psql('postgres', $builder);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
ok( $node->poll_query_until(
		'postgres', q{SELECT error_code = '57014' FROM dbopt_index_state WHERE name = 'cancelled'}),
	'a cancelled build is a failure');
$blocker->query_safe('ROLLBACK');
wait_status('cancelled', 'valid', 'and is tried again');

# Its session is killed.
$node->safe_psql('postgres', q{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('killed', 'users', '(email, role)')});
$blocker->query_safe('BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('users')});
waits('killed', 'another one waits');
$pid = $node->safe_psql('postgres', $builder);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('postgres', q{SELECT attempts = 2 FROM dbopt_index_state WHERE name = 'killed'}),
	'one whose session was killed is tried again');
$blocker->query_safe('ROLLBACK');
wait_status('killed', 'valid', 'in the end it is there');
is(invalid_indexes(), 0, 'and no invalid index');

# One that goes on is not called unfinished, though its index is not valid yet.
$node->safe_psql('postgres', q{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('halfway', 'users', '(role, email)')});
$blocker->query_safe('BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('users')});
waits('halfway', 'a third one waits');
$pid = $node->safe_psql('postgres', $builder);
kill 'STOP', $pid;
$blocker->query_safe('ROLLBACK');
is( $node->safe_psql('postgres',
		q{SELECT status, reason IS NULL, size_bytes IS NOT NULL FROM dbopt_index_status() WHERE name = 'halfway'}),
	'building|t|t', 'when it need not any more it is being built');
kill 'CONT', $pid;
wait_status('halfway', 'valid', 'until it is there');

# The server is stopped, and crashes, in the middle; at last with all sessions,
# because one of them, the builder's, was.
foreach my $mode (qw(fast immediate kill session))
{
	$node->safe_psql('postgres',
		qq{INSERT INTO dbopt_index (name, table_name, definition) VALUES ('over_$mode', 'users', '(id, role)')});
	my $other = block('users');
	$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('users')});
	waits("over_$mode", "$mode: a build is on its way");
	if ($mode eq 'kill')
	{
		kill_postmaster($node);
	}
	elsif ($mode eq 'session')
	{
		kill 'KILL', $node->safe_psql('postgres', $builder);
	}
	else
	{
		$node->stop($mode);
		$node->start;
	}
	eval { $other->quit };
	wait_status("over_$mode", 'valid', "$mode: it is finished after the restart");
	$node->safe_psql('postgres', qq{DELETE FROM dbopt_index WHERE name = 'over_$mode'; DROP INDEX over_$mode});
}
is(invalid_indexes(), 0, 'and no invalid index');

# The table is dropped in the middle: the others go on.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE passing (a int); INSERT INTO passing VALUES (1);
	INSERT INTO dbopt_index VALUES ('of_passing', 'passing', '(a)');
});
$blocker = block('passing');
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('passing')});
waits('of_passing', 'a build on a table that is about to go');
my $dropper = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'DROP TABLE passing' ]);
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^DROP TABLE' AND wait_event_type = 'Lock'}),
	'which waits, too');
$pid = $node->safe_psql('postgres', $builder);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
ok( $node->poll_query_until(
		'postgres', q{SELECT error_code = '57014' FROM dbopt_index_state WHERE name = 'of_passing'}),
	'the build is cancelled');
$blocker->query_safe('COMMIT');
ok($dropper->finish, 'the table is dropped');
$node->safe_psql('postgres', q{INSERT INTO dbopt_index VALUES ('after_passing', 'users', '(role, id)')});
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('users', true)});
is(status('after_passing'), 'valid', 'the next one is built');
$blocker->quit;
wait_status('of_passing', 'inapplicable', 'that of the table is inapplicable');

# Resources that run out are one index's failure, tried again and then given up.
# The limit on a sort's files stands for a disk that is full: both are of class 53.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE cramped LOGIN;
	GRANT CREATE ON SCHEMA public TO cramped;
	ALTER ROLE cramped SET temp_file_limit = '64kB';
	ALTER ROLE cramped SET maintenance_work_mem = '1MB';
	CREATE TABLE large (a int, b text);
	ALTER TABLE large OWNER TO cramped;
	INSERT INTO large SELECT i, 'some text that takes room ' || i FROM generate_series(1, 50000) i;
	INSERT INTO dbopt_index VALUES ('large_a', 'large', '(a, b)'), ('large_b', 'large', '(a) WHERE a < 10'),
		('large_c', 'users', '(first_name)');
});
($ret, $out, $err) = $node->psql('postgres', 'CALL dbopt_ensure_indexes(NULL, true)');
like($err, qr/index "large_a" could not be built: temporary file size exceeds "?temp_file_limit"?/, 'a resource runs out');
is( $node->safe_psql('postgres', q{SELECT state, attempts, error_code FROM dbopt_index_state WHERE name = 'large_a'}),
	'failed|3|53400', 'which is tried again, and given up');
is(status('large_b'), 'valid', 'the next one is built');
is(status('large_c'), 'valid', 'and that of another table');
is(invalid_indexes(), 0, 'no invalid index is left');
$node->safe_psql('postgres', q{ALTER ROLE cramped RESET temp_file_limit; CALL dbopt_ensure_indexes('large', true)});
is(status('large_a'), 'valid', 'when there is room it is built');

# So is a lock that is not to be had in time, where others would have to wait.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE whole (a int) PARTITION BY RANGE (a);
	CREATE TABLE part PARTITION OF whole DEFAULT;
	ALTER TABLE whole OWNER TO owner;
	ALTER TABLE part OWNER TO owner;
	CREATE INDEX part_a ON part (a);
	INSERT INTO dbopt_index VALUES ('whole_a', 'whole', '(a)'), ('whole_b', 'users', '(status, role, id)');
});
$blocker = block('whole');
($ret, $out, $err) = $node->psql('postgres', 'CALL dbopt_ensure_indexes(NULL, true)');
like($err, qr/index "whole_a" could not be built: could not lock the table and its partitions within 50 ms/,
	'a lock is not to be had');
is(status('whole_b'), 'valid', 'the next one is built');
$blocker->query_safe('COMMIT');
$blocker->quit;
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes('whole', true)});
is(status('whole_a'), 'valid', 'later it is built');

# An owner who could not create it by hand: what a superuser has declared is
# built, what he has declared himself is not.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE guest LOGIN;
	CREATE SCHEMA house;
	GRANT USAGE, CREATE ON SCHEMA house TO guest;
	CREATE TABLE house.room (a int);
	INSERT INTO house.room VALUES (1);
	ALTER TABLE house.room OWNER TO guest;
	GRANT INSERT ON dbopt_index TO guest;
	SET ROLE guest;
	INSERT INTO dbopt_index VALUES ('by_guest', 'house.room', '(a)');
	RESET ROLE;
	REVOKE CREATE ON SCHEMA house FROM guest;
	INSERT INTO dbopt_index VALUES ('for_guest', 'house.room', '(a)');
	CALL dbopt_ensure_indexes('house.room', true);
});
is(status('for_guest'), 'valid', 'declared by a superuser');
is( $node->safe_psql('postgres', q{SELECT status, reason FROM dbopt_index_status() WHERE name = 'by_guest'}),
	'inapplicable|role "guest", who declared it, may not create in schema "house"', 'declared by the owner');

# Rights: of the caller, and of whoever declares.
$node->safe_psql('postgres', q{GRANT EXECUTE ON PROCEDURE dbopt_ensure_indexes, dbopt_drop_indexes TO watcher});
($ret, $out, $err) = $node->psql('postgres', q{SET ROLE watcher; CALL dbopt_ensure_indexes('users')});
like($err, qr/must be owner of table users/, 'others cannot have indexes built');
($ret, $out, $err) = $node->psql('postgres', q{SET ROLE watcher; CALL dbopt_drop_indexes('users')});
like($err, qr/must be owner of table users/, 'nor dropped');
($ret, $out, $err) = $node->psql('postgres', q{BEGIN; CALL dbopt_ensure_indexes(NULL, true)});
like($err, qr/cannot wait for indexes inside a transaction block/, 'nobody waits in a transaction block');
($ret, $out, $err) = $node->psql('postgres', q{DO 'BEGIN CALL dbopt_drop_indexes(); END'});
like($err, qr/cannot be dropped concurrently inside a transaction block/, 'nor drops in one');

# Two databases at once.
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql(
	'second', q{
	CREATE TABLE api_keys (id int, name text, user_id int, organization_id int, status text, expires_at date,
		last_used_at timestamptz);
	INSERT INTO api_keys SELECT i, 'key', i, i, 'active', '2025-01-01', now() FROM generate_series(1, 1000) i;
	CREATE EXTENSION dbopt CASCADE;
});
$node->safe_psql('postgres', q{INSERT INTO dbopt_index VALUES ('meanwhile', 'users', '(status, id)');
	CALL dbopt_ensure_indexes(NULL, true)});
$node->safe_psql('second', 'CALL dbopt_ensure_indexes(NULL, true)');
is(status('meanwhile'), 'valid', 'built in one database');
is( $node->safe_psql('second', q{SELECT count(*) FROM dbopt_index_status() WHERE table_name = 'api_keys' AND status = 'valid'}),
	4, 'and in the other');

# Names that would be something else in SQL are names: also where one index is
# built to take another's place, and what a failure has left is dropped.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA "s""; --";
	CREATE TABLE "s""; --"."t (a); DROP TABLE users; --" AS SELECT 1 AS "a"")" FROM generate_series(1, 2);
	INSERT INTO dbopt_index (name, table_name, definition, is_unique)
		VALUES ('i"; DROP TABLE users; --', '"s""; --"."t (a); DROP TABLE users; --"', '("a"")")', true);
});
my $injected = q{SELECT status FROM dbopt_index_status() WHERE name ~ '^i"'};
($ret, $out, $err) = $node->psql('postgres', 'CALL dbopt_ensure_indexes(NULL, true)');
like($err, qr/index "i"; DROP TABLE users; --" could not be built: could not create unique index/, 'a name is a name');
is(invalid_indexes(), 0, '... and its leftover is dropped');
foreach my $definition ('("a"")")', '("a"")" DESC)')
{
	$node->safe_psql('postgres', qq{
		UPDATE dbopt_index SET is_unique = false, definition = '$definition' WHERE name ~ '^i"';
		CALL dbopt_ensure_indexes(NULL, true);
	});
	is($node->safe_psql('postgres', $injected), 'valid', "... and built: $definition");
}
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_indexes WHERE schemaname = 's"; --'}),
	1, '... alone');

# What dbopt has built is dropped; what it found stays.
$node->safe_psql('postgres', q{CREATE INDEX found ON users (last_name);
	INSERT INTO dbopt_index VALUES ('found', 'users', '(last_name)')});
$node->safe_psql('postgres', q{CALL dbopt_ensure_indexes(NULL, true)});
$node->safe_psql('postgres', q{CALL dbopt_drop_indexes()});
is( $node->safe_psql('postgres', q{SELECT string_agg(indexname, ' ') FROM pg_indexes
		WHERE tablename IN ('users', 'organizations')}),
	'found', 'what dbopt has built is dropped');
is(status('idx_users_email_lower'), 'missing', 'and is missing then');
$node->stop;
done_testing();
