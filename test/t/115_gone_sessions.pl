# A session that ends before it has begun with what a caller wants of it: the
# caller is served by another session, as if there had been no other.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;

my $dir = build_module();
my $node = PostgreSQL::Test::Cluster->new('gone_sessions');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
	shared_preload_libraries = 'dbopt, $dir/dbopt_test'
	fsync = off
	dbopt.pool_min = 0
	dbopt.pool_max = 1
	dbopt.pool_idle_timeout = '1 h'
	dbopt.pool_acquire_timeout = '60 s'
});
$node->start;
asking($node);
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN;
	CREATE TABLE note (n int, pid int DEFAULT pg_backend_pid());
	GRANT ALL ON note TO app;
});

my ($session, $caller);
END { kill 'CONT', grep { defined } $session, $caller; }

# A psql that has a number noted.
sub call
{
	my ($n) = @_;
	my %call = (says => '');

	$call{run} = IPC::Run::start(
		[   'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SET ROLE app',
			'-c', "SELECT dbopt_with_connection('INSERT INTO note (n) VALUES (\$1) RETURNING n', '{$n}')" ],
		'<', \undef, '>&', \$call{says});
	return \%call;
}

# And what it says at the end.
sub answer
{
	my ($call) = @_;

	$call->{run}->finish;
	chomp $call->{says};
	return $call->{says};
}

my $waiting = '(SELECT waiting FROM dbopt_pool_stats())';

# One that has been given to the session, which stands still.
sub given_call
{
	my ($n) = @_;

	$session = sql(q{SET ROLE app; SELECT dbopt_with_connection('SELECT pg_backend_pid() AS pid')->>'pid'});
	wait_for('(SELECT free = 1 FROM dbopt_pool_stats())', 'the session is idle');
	kill 'STOP', $session;
	my $call = call($n);
	wait_for('(SELECT used = 1 FROM dbopt_pool_stats())', "call $n is given to it");
	return $call;
}

# It is told to end, and goes on.
sub end_session
{
	sql("SELECT pg_terminate_backend($session)");
	kill 'CONT', $session;
	return;
}

my $events = q{SELECT event, count FROM dbopt_pool_events() WHERE event ~ '^acquire' ORDER BY event};
my @calls = (given_call(1));
foreach my $n (2, 3)
{
	push @calls, call($n);
	wait_for("$waiting = $n - 1", "call $n waits");
}
end_session();
is(answer($calls[ $_ - 1 ]), qq({"n": $_}), "call $_ is done") foreach 1 .. 3;
is(sql('SELECT string_agg(n::text, $$ $$ ORDER BY n) FROM note'), '1 2 3', '... once each');
is(sql("SELECT count(*) FROM note WHERE pid = $session"), 0, '... by another session');
is(sql($events), "acquireFail|0\nacquireRequest|5\nacquireSuccess|5", '... and two sessions were given for one call');

# One that is cancelled meanwhile is done by nobody.
my $call = given_call(4);
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%''{4}''%' AND pid <> pg_backend_pid()});
like(answer($call), qr/canceling statement due to user request/, 'a caller is cancelled');
end_session();
is(answer(call(5)), '{"n": 5}', 'the next is served');
is(sql('SELECT count(*) FROM note WHERE n = 4'), 0, '... and the one that was cancelled is not done');

# One that is told to end while its caller does not read what it says ends, and
# the call is not given to another one: it had begun.  Its work takes so long that
# it has no statistics to report a second later, and so nothing else to wake for.
my $deaf = asked(undef, on_error_stop => 0);
$caller = $deaf->query_safe('SELECT pg_backend_pid()');
$deaf->query_safe('SET ROLE app');
my $lock = asked();
$lock->query_safe('SELECT pg_advisory_lock(1)');
$deaf->query_until(qr/called/, q{\echo called
	SELECT dbopt_with_connection($$DO 'BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		PERFORM pg_sleep(1.5); -- work
		RAISE EXCEPTION ''%'', repeat(''x'', 200000);
	END'$$);
});
wait_for('(SELECT count(*) = 1 FROM pg_locks WHERE NOT granted)', 'a session is at work');
$session = sql('SELECT pid FROM pg_locks WHERE NOT granted');
kill 'STOP', $caller;
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_for("(SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $session)", 'its answer waits for room');
sql("SELECT pg_terminate_backend($session)");
wait_for("(SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $session)", 'it ends when it is told to');
kill 'CONT', $caller;
$caller = undef;
$deaf->query('SELECT 1');
like($deaf->{stderr}, qr/ERROR:  the pool session that ran the statement has gone/, 'its caller is told');

# There is no other session for it.
set_reload(q{dbopt.pool_acquire_timeout = '5 s'});
$call = given_call(6);
sql('ALTER ROLE app SET dbopt_test.refuse = on');
end_session();
like(answer($call), qr/The last session could not be created: no query is planned/, 'a caller for whom there is none any more is told why');
is(sql("SELECT $waiting + used FROM dbopt_pool_stats()"), 0, 'nobody waits');
$session = undef;
$node->stop;
done_testing();
