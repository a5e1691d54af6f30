# Connections that are used up, of the server, a database or a role: that is
# nothing to workers, or, where PostgreSQL holds them to the limit, sessions are
# tried again after longer and longer pauses, the log says so once, others go on,
# and what waited is delivered when there is room again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('connections');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_connections = 12
superuser_reserved_connections = 6
dbopt.pool_min = 0
log_statement = none
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE client LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE effects (id uuid);
	GRANT SELECT ON log TO app;
	GRANT INSERT ON effects TO app;
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects VALUES (e.id) $$;
	SELECT dbopt_register_handler('plain', 'PLAIN', 'handle(log)');
	SELECT dbopt_register_handler('apps', 'APPS', 'handle(log)', run_as => 'app')});

sub add_event
{
	my ($type) = @_;

	return $node->safe_psql('postgres', "INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('$type', 'a', dbopt_uuid_v7(), '{}') RETURNING id");
}

sub wait_for
{
	my ($condition, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT $condition"), $name)
	  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_pool_sessions(); SELECT * FROM dbopt_pool_events()');
	return;
}

sub times_logged
{
	my ($pattern, $offset) = @_;

	return scalar(() = slurp_file($node->logfile, $offset) =~ /$pattern/g);
}

# Clients connect, as which role, and use up what $limit leaves.  Releases of
# PostgreSQL differ in which of these limits workers are held to.
sub starve
{
	my ($what, $role, $number, $limit, $no_limit, $error) = @_;
	my $failed = q{(SELECT count FROM dbopt_pool_events() WHERE event = 'createFail')};

	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 100000) FROM dbopt_pool_sessions()});
	my @clients = map { $node->background_psql('postgres', extra_params => [ '-U', $role ]) } 1 .. $number;
	$node->safe_psql('postgres', $limit) if $limit;
	my ($status, $out, $refusal) = $node->psql('postgres', 'SELECT', extra_params => [ '-U', $role ]);
	like($refusal, $error, "$what: no connection is left");

	my $offset = -s $node->logfile;
	my $before = $node->safe_psql('postgres', "SELECT $failed");
	my $event = add_event('APPS');
	my $delivered = "EXISTS (SELECT FROM effects WHERE id = '$event')";
	wait_for("$failed >= $before + 3 OR $delivered", "$what: delivery is tried");
	my $held = $node->safe_psql('postgres', "SELECT $failed > $before") eq 't' ? 1 : 0;
	note "$what: workers are ", $held ? 'held to it' : 'not held to it';
	is($node->safe_psql('postgres', "SELECT $delivered"), $held ? 'f' : 't', '... in vain where workers are held to the limit');
	is(times_logged(qr/dbopt: could not start a dbopt session for role/, $offset), $held, '... and the log says so once');
	is(times_logged(qr/FATAL: .*$error/, $offset), $held, '... and why');
	is(times_logged(qr/background worker "dbopt session" .*exited/, $offset), $held, '... as does the postmaster');
	my $other = add_event('PLAIN');
	wait_for("EXISTS (SELECT FROM effects WHERE id = '$other')", '... others are delivered to');

	$node->safe_psql('postgres', $no_limit) if $no_limit;
	$_->quit foreach @clients;
	wait_for($delivered, '... and so is this one, by itself, when there is room');
	is($node->safe_psql('postgres', q{SELECT dbopt_drain('100 s')}), 't', '... and nothing is left');
	return;
}

starve('a role', 'app', 2, 'ALTER ROLE app CONNECTION LIMIT 1', undef, qr/too many connections for role/);
starve('a database', 'client', 3, 'ALTER DATABASE postgres CONNECTION LIMIT 2', 'ALTER DATABASE postgres CONNECTION LIMIT -1',
	qr/too many connections for database/);
starve('the server', 'client', 6, undef, undef, qr/remaining connection slots are reserved/);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM effects'), $node->safe_psql('postgres', 'SELECT count(*), count(*) FROM log'),
	'each event once');

$node->stop('fast');
done_testing();
