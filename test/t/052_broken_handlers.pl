# A handler that cannot be called is broken: it says why, nobody tries again
# and again, no attempt is spent, and there is a way back.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('broken');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
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
	my $before = () = slurp_file($node->logfile) =~ /handler 1 is broken/g;
	my $done = sql($seen);

	sql($break);
	insert();
	ok($node->poll_query_until('postgres', q{SELECT state FROM dbopt_handlers WHERE name = 'a'}, 'broken'), "$what: broken");
	like(sql(q{SELECT reason FROM dbopt_handlers WHERE name = 'a'}), $reason, '... and says why');
	insert();
	ok($node->poll_query_until('postgres', "SELECT count(*) FROM seen WHERE id < 0", $id), '... while another handler goes on');
	is(sql($seen), $done, '... and nothing is delivered');
	my $after = () = slurp_file($node->logfile) =~ /handler 1 is broken/g;
	cmp_ok($after - $before, '<=', 1, '... nor tried again');
	sql($mend);
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... until it is mended');
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
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'all is well at first');

breaks('EXECUTE is revoked', 'REVOKE EXECUTE ON FUNCTION a FROM app', qr/^its role may not execute its function any more$/,
	q{GRANT EXECUTE ON FUNCTION a TO app; SELECT dbopt_resume_handler('a')});
breaks('SELECT is revoked', 'REVOKE SELECT ON events FROM app', qr/^its role may not read the events table any more$/,
	q{GRANT SELECT ON events TO app; SELECT dbopt_resume_handler('a')});
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
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'after renaming function and role');
is(sql($seen), join(' ', 1 .. $id), 'it goes on');
is(sql(q{SELECT dbopt_resume(); SELECT handler, role FROM dbopt_handlers WHERE name = 'a'}), "\npublic.another(public.events)|application",
	'under its new names');
sql(q{ALTER FUNCTION another(events) RENAME TO a; ALTER ROLE application RENAME TO app});
sql(q{CREATE OR REPLACE FUNCTION a(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES ($1.id + 1000)'});
insert();
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'after replacing its body');
is(sql("SELECT count(*) FROM seen WHERE id = $id + 1000"), '1', 'the new one runs');

$node->stop;
done_testing();
