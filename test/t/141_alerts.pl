# A change of the overall health is told once, by the log and by NOTIFY, when it
# has lasted; what flaps is no storm, and a server at rest stays at rest.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('alerts');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
max_worker_processes = 16
dbopt.alert_delay = '400 ms'
dbopt.pool_min = 2	# which stay, so that none is ended at rest
dbopt.pool_max = 2	# half of which may be at work for long
autovacuum = off
});
$node->start;

# Something that quotes and that JSON escapes.
my $db = 'the "shop"';
$node->safe_psql('postgres', 'CREATE DATABASE "the ""shop"""');

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql($db, $statement);
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION work(events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF $1.event_type = 'SECRET.BAD' THEN
			RAISE EXCEPTION 'payload %', $1.data USING ERRCODE = 'data_exception';
		END IF;
	END $$;
	SELECT dbopt_register_handler('work', 'SECRET.*', 'work(events)');
});

sub insert
{
	my ($type) = @_;

	sql("INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('$type', 'a', gen_random_uuid(), '{\"k\": \"card\"}')");
	return;
}

# ---- a client that listens -----------------------------------------------

my ($in, $out, $err) = ('', '', '');
my $listener = IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr($db) ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
$in = "LISTEN dbopt_alert;\n";

# What has come until now.
my $asked = 0;
sub alerts
{
	my $mark = 'asked ' . ++$asked;

	$in .= "SELECT '$mark';\n";
	$listener->pump until $out =~ /^\Q$mark\E$/m;
	return map { decode_json($_) } $out =~ /^Asynchronous notification "dbopt_alert" with payload "(.*)" received/mg;
}

sub logged
{
	my @lines = slurp_file($node->logfile) =~ /LOG:  (dbopt: health of database "the "shop"" is \w+, was \w+)$/mg;

	return @lines;
}

# Waits for so many alerts, and that there are no more.
sub wait_for_alerts
{
	my ($count, $name) = @_;
	my @alerts;

	$node->poll_query_until($db, 'SELECT true') and @alerts = alerts() until @alerts >= $count;
	is(scalar @alerts, $count, $name);
	# The log comes after the commit that notifies.
	$node->wait_for_log(qr/(?:LOG:  dbopt: health of database .*?){$count}/s);
	is(scalar logged(), $count, '... and as often in the log');
	return $alerts[-1];
}

is(scalar alerts(), 0, 'no alert while all is well');

# ---- one change, one alert -----------------------------------------------

# How long after this an alert came, in seconds.
sub delay_of
{
	my ($alert, $since) = @_;

	return sql("SELECT extract(epoch FROM timestamptz '$alert->{at}' - '$since')");
}

my $since = sql('SELECT clock_timestamp()');
insert('SECRET.BAD');
my $alert = wait_for_alerts(1, 'one alert for a dead letter');
cmp_ok(delay_of($alert, $since), '>=', 0.4, 'which has lasted for dbopt.alert_delay');
is($alert->{database}, $db, 'the database');
is($alert->{environment}, 'development', 'the environment');
is("$alert->{previous} $alert->{status}", 'healthy degraded', 'what has changed');
is_deeply($alert->{checks}, { dead_letters => 'degraded' }, 'which check');
like($alert->{at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/, 'when');
is(join(' ', sort keys %$alert), 'at checks database environment previous status', 'and nothing else');
like(slurp_file($node->logfile), qr/DETAIL:  \{"database": "the \\"shop\\"", .*"checks": \{"dead_letters": "degraded"\}\}$/m,
	'the log has the same');
unlike(join(' ', slurp_file($node->logfile) =~ /^.*LOG:  dbopt: health of.*\n.*$/mg), qr/card|payload|SECRET/, 'no payload is told');

# Another one is no change of the overall status; a worse check is.
insert('SECRET.BAD');
sql('SELECT dbopt_drain()');
sql(q{SELECT dbopt_trip_circuit_breaker('work')});
$alert = wait_for_alerts(2, 'one alert for all breakers open');
is("$alert->{previous} $alert->{status}", 'degraded critical', 'it is worse');
is_deeply($alert->{checks}, { dead_letters => 'degraded', breakers => 'critical' }, 'two checks');

# A scheduler that starts anew does not tell it again; nor does it forget.
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = current_database()});
$node->poll_query_until($db, q{SELECT status FROM dbopt_health() WHERE check_name = 'scheduler'}, 'healthy');
sql('SELECT dbopt_discard_dead_letters()');
$since = sql('SELECT clock_timestamp()');
sql('SELECT dbopt_reset_circuit_breaker()');
$alert = wait_for_alerts(3, 'one alert when all is well again');
cmp_ok(delay_of($alert, $since), '>=', 2.4, 'which has lasted six times as long');
is("$alert->{previous} $alert->{status}", 'critical healthy', 'it is well');
is_deeply($alert->{checks}, {}, 'no check to name');

# ---- flapping ------------------------------------------------------------

# Waits until the scheduler has looked at the health after this.
sub looked
{
	my ($what) = @_;
	# In one query: a look right after the change may be the last one.
	my ($after) = sql("$what, clock_timestamp()") =~ /\|(.*)/;

	$node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'
		AND datname = 'the "shop"' AND query = 'looking at the health' AND query_start > '$after' AND state = 'idle'})
	  or die "nobody looks after $what";
	return;
}

# Trips the breaker and resets it for twice the delay in all, so that each state
# is seen.  How long one of them has lasted at most, in seconds.
sub flap
{
	my ($delay) = @_;
	my $clock = sub { $node->safe_psql('postgres', 'SELECT extract(epoch FROM clock_timestamp())') };
	my ($start, $longest) = ($clock->(), 0);
	my $end = $start;

	while ($end < $start + 2 * $delay)
	{
		my $tripped = $end;

		looked(q{SELECT dbopt_trip_circuit_breaker('work')});
		looked(q{SELECT dbopt_reset_circuit_breaker('work')});
		$end = $clock->();
		$longest = $end - $tripped if $end - $tripped > $longest;
	}
	return $longest;
}

# On a machine that stands still for so long, with a longer delay.
my $told = alerts();
foreach my $delay (1, 2, 4, 8, 16, 32)
{
	$node->append_conf('postgresql.conf', "dbopt.alert_delay = '$delay s'");
	$node->reload;
	last if flap($delay) < $delay;
	$told = alerts();
	$told = wait_for_alerts($told + 1, 'it has lasted, and is over') && $told + 1 if (alerts())[-1]->{status} ne 'healthy';
}
is(scalar alerts(), $told, 'nothing is told that does not last');
$node->append_conf('postgresql.conf', "dbopt.alert_delay = '400 ms'");
$node->reload;

# ---- off, and at rest ----------------------------------------------------

sql(q{SELECT dbopt_pause()});
wait_for_alerts($told + 1, 'paused');
sql(q{SELECT dbopt_resume()});
$alert = wait_for_alerts($told + 2, 'resumed');
is("$alert->{previous} $alert->{status}", 'degraded healthy', 'it is well');

# Nobody has seen transactions of its own when nothing happens: the clearing
# above was the last look.
my $transactions = q{SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'the "shop"'};
$in .= "\\q\n";
$listener->finish;
ok( $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity
		WHERE datname = 'the "shop"' AND (backend_type = 'client backend' OR state = 'active')}),
	'nobody is there');
my $rest = 'SELECT pg_sleep(3)'; # -- work: being at rest
$node->safe_psql('postgres', $rest);
my $before = $node->safe_psql('postgres', $transactions);
$node->safe_psql('postgres', $rest);
is($node->safe_psql('postgres', $transactions), $before, 'no transaction while nothing happens');

$node->append_conf('postgresql.conf', 'dbopt.alert_delay = -1');
$node->reload;
my $before_off = () = logged();
sql(q{SELECT dbopt_pause()});
is(sql(q{SELECT status FROM dbopt_health() WHERE check_name = 'overall'}), 'degraded', 'still looked at by those who ask');
insert('SECRET.GOOD');
sql(q{SELECT dbopt_resume()});
sql(q{SELECT dbopt_drain()});
is(scalar logged(), $before_off, 'and nothing is told when that is switched off');

$node->stop;
done_testing();
