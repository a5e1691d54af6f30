# A handler that cannot be called is broken: it says why, nobody tries again
# and again, no attempt is spent, and there is a way back.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('broken');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_idle_timeout = '1h'");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

my $id = 0;

sub insert
{
	$id++;
	sql("INSERT INTO events VALUES ($id, 'A'), (-$id, 'B')");
	return;
}

my $seen = q{SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM seen WHERE id > 0};

# What breaks the handler is done; it waits, and what mends it brings the
# event to it.
sub breaks
{
	my ($what, $break, $reason, $mend) = @_;
	my $before = () = slurp_file($node->logfile) =~ /handler "a" is broken/g;
	my $done = sql($seen);

	sql($break);
	insert();
	ok($node->poll_query_until('postgres', q{SELECT state FROM dbopt_handlers WHERE name = 'a'}, 'broken'), "$what: broken");
	like(sql(q{SELECT reason FROM dbopt_handlers WHERE name = 'a'}), $reason, '... and says why');
	insert();
	ok($node->poll_query_until('postgres', "SELECT count(*) FROM seen WHERE id < 0", $id), '... while another handler goes on');
	is(sql($seen), $done, '... and nothing is delivered');
	my $after = () = slurp_file($node->logfile) =~ /handler "a" is broken/g;
	cmp_ok($after - $before, '<=', 1, '... nor tried again');
	sql($mend);
	is(sql(q{SELECT dbopt_drain('180 s')}), 't', '... until it is mended');
	is(sql($seen), join(' ', 1 .. $id), '... all of it is delivered then');
	is(sql(q{SELECT state, reason FROM dbopt_handlers WHERE name = 'a'}), 'ready|', '... and it is ready');
	is(sql(q{SELECT failures FROM dbopt_retry_stats() WHERE handler = 'a'}), '0', '... without an attempt lost');
	return;
}

sql(q{
	CREATE ROLE app LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL);
	SELECT dbopt_attach_events('events');
	CREATE TABLE seen (id int);
	GRANT SELECT ON events TO app;
	GRANT INSERT ON seen TO app;
	CREATE FUNCTION a(e events) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (e.id); END';
	CREATE FUNCTION b(e events) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (e.id); END';
	REVOKE EXECUTE ON FUNCTION a FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION a TO app;
	SELECT dbopt_register_handler('a', 'A', 'a(events)', run_as => 'app');
	SELECT dbopt_register_handler('b', 'B', 'b(events)');
});
insert();
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'all is well at first');

breaks('EXECUTE is revoked', 'REVOKE EXECUTE ON FUNCTION a FROM app', qr/^its role may not execute its function any more: GRANT EXECUTE on the function, then dbopt_resume_handler\(\)$/,
	q{GRANT EXECUTE ON FUNCTION a TO app; SELECT dbopt_resume_handler('a')});
like(slurp_file($node->logfile), qr/dbopt: handler "a" is broken: its role may not execute its function any more: GRANT/, 'the log names it');
breaks('SELECT is revoked', 'REVOKE SELECT ON events FROM app', qr/^its role may not read the events table any more: GRANT SELECT on the table, then dbopt_resume_handler\(\)$/,
	q{GRANT SELECT ON events TO app; SELECT dbopt_resume_handler('a')});
breaks('row level security is enabled', 'ALTER TABLE events ENABLE ROW LEVEL SECURITY', qr/^row level security of the events table applies to its role: disable it or give the role BYPASSRLS, then dbopt_resume_handler\(\)$/,
	q{ALTER TABLE events DISABLE ROW LEVEL SECURITY; SELECT dbopt_resume_handler('a')});

# A role that cannot log in has no session to find out by.
my $sessions = q{SELECT count(*) FROM dbopt_pool_sessions() WHERE role = 'app'};
my $needs_login = $node->safe_psql('postgres', 'SHOW server_version_num') < 170000;

sub keeps_out
{
	my ($what, $break, $reason, $mend) = @_;
	my $before = () = slurp_file($node->logfile) =~ /could not start a dbopt session/g;

	breaks($what, $break, $reason, "$mend; SELECT dbopt_resume_handler('a')");
	my $after = () = slurp_file($node->logfile) =~ /could not start a dbopt session/g;
	is($after, $before, '... without an attempt to start a session');
	return;
}

keeps_out('LOGIN is taken', 'ALTER ROLE app NOLOGIN', qr/^the role "app" is not permitted to log in any more: ALTER ROLE app LOGIN, then dbopt_resume_handler\(\)$/,
	'ALTER ROLE app LOGIN') if $needs_login;
keeps_out('CONNECT is revoked', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', qr/^the role "app" may not connect to this database any more: GRANT CONNECT /,
	'GRANT CONNECT ON DATABASE postgres TO app');
sql(q{CREATE ROLE friends; GRANT CONNECT ON DATABASE postgres TO friends; GRANT friends TO app; REVOKE CONNECT ON DATABASE postgres FROM app});
keeps_out('it is no member of a role with CONNECT any more', 'REVOKE friends FROM app', qr/^the role "app" may not connect /,
	'GRANT CONNECT ON DATABASE postgres TO PUBLIC');

sql(q{SELECT dbopt_register_handler('idle', 'IDLE', 'a(events)', run_as => 'app')});
insert();
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'all is well again');
cmp_ok(sql($sessions), '>', 0, 'a session of the role is warm');
sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
ok($node->poll_query_until('postgres', $sessions, '0'), 'it is ended when the role may not connect any more');
ok( $node->poll_query_until('postgres', q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM dbopt_handlers},
		'a broken, b ready, idle broken'),
	'all handlers of the role are broken, without an event');
sql(q{GRANT CONNECT ON DATABASE postgres TO PUBLIC; SELECT dbopt_resume_handler('a'), dbopt_resume_handler('idle'); SELECT dbopt_unregister_handler('idle')});

my $register = q{SELECT dbopt_register_handler('a', 'A', 'a(events)', run_as => 'app', replace => true)};
breaks('the function is dropped', 'DROP FUNCTION a', qr/function.*(missing|does not exist)/,
	qq{CREATE FUNCTION a(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (\$1.id)'; $register});
breaks('the function returns a set now',
	q{DROP FUNCTION a; CREATE FUNCTION a(e events) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1'},
	qr/function.*(missing|does not exist)/,
	qq{DROP FUNCTION a; CREATE FUNCTION a(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (\$1.id)'; $register});

# What has another name, or another body, is the same.
sql(q{ALTER FUNCTION a(events) RENAME TO another; ALTER ROLE app RENAME TO application});
insert();
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'after renaming function and role');
is(sql($seen), join(' ', 1 .. $id), 'it goes on');
is(sql(q{SELECT dbopt_resume(); SELECT handler, role FROM dbopt_handlers WHERE name = 'a'}), "\npublic.another(public.events)|application",
	'under its new names');
sql(q{ALTER FUNCTION another(events) RENAME TO a; ALTER ROLE application RENAME TO app});
sql(q{CREATE OR REPLACE FUNCTION a(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES ($1.id + 1000)'});
insert();
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'after replacing its body');
is(sql("SELECT count(*) FROM seen WHERE id = $id + 1000"), '1', 'the new one runs');

# The role is dropped: another of its name inherits nothing.
$register = q{SELECT dbopt_register_handler('a', 'A', 'a(events)', run_as => 'app', replace => true)};
breaks('the role is dropped', 'DROP OWNED BY app; DROP ROLE app', qr/^the role "app" is missing: register the handler with replace => true$/,
	qq{CREATE ROLE app LOGIN; GRANT SELECT ON events TO app; GRANT INSERT ON seen TO app; GRANT EXECUTE ON FUNCTION a TO app;
		CREATE OR REPLACE FUNCTION a(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (\$1.id)';
		UPDATE seen SET id = id - 1000 WHERE id > 1000; $register});

$node->stop;
done_testing();
