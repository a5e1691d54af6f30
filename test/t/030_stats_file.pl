# Circuit breakers and statistics survive a clean restart, and no other end.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('stats');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION dbopt CASCADE');
my $file = $node->data_dir . '/pg_stat/dbopt.stat';

sub state_of_breaker
{
	return $node->safe_psql('postgres',
		"SELECT state, tripped, retry_at FROM dbopt_circuit_breakers() WHERE name = 'database'");
}

sub trip
{
	$node->safe_psql('postgres', "SELECT dbopt_trip_circuit_breaker('database')");
	return;
}

sub change_file
{
	my ($offset, $byte) = @_;

	open my $handle, '+<:raw', $file or die "could not open $file: $!";
	seek $handle, $offset, 0;
	print $handle $byte;
	close $handle;
	return;
}


trip();
is(state_of_breaker(), 'OPEN|1|infinity', 'breaker tripped');

$node->stop;
ok(-s $file, 'a clean shutdown leaves a file');
ok(!-e "$file.tmp", '... under its final name');
$node->start;
ok(!-e $file, 'the start removes it');
is(state_of_breaker(), 'OPEN|1|infinity', 'breaker still open after a clean restart');

$node->restart;
is(state_of_breaker(), 'OPEN|1|infinity', '... and after another one');

$node->stop('immediate');
ok(-e $file, 'an immediate shutdown leaves a file, too, the mark that it was wanted');
$node->start;
ok(!-e $file, '... that the start removes');
is(state_of_breaker(), 'CLOSED|0|', '... without contents: the breaker starts anew');

trip();
$node->stop('fast');
ok(-e $file, 'a fast shutdown leaves a file');
$node->start;
is(state_of_breaker(), 'OPEN|1|infinity', '... that is read');

my $size = do { $node->stop; -s $file };
change_file($size - 20, "\xff\xff\xff");
my $log_start = -s $node->logfile;
$node->start;
is(state_of_breaker(), 'CLOSED|0|', 'a damaged file is ignored');
like(slurp_file($node->logfile, $log_start), qr/ignoring damaged file "pg_stat\/dbopt.stat"/, '... and logged');
ok(!-e $file, '... and removed');

foreach my $length (0, 3, 40)
{
	trip();
	$node->stop;
	truncate $file, $length or die "could not truncate $file: $!";
	$node->start;
	is(state_of_breaker(), 'CLOSED|0|', "a file of $length bytes is ignored");
}

# A change in max_handlers: what fits is kept, and nothing breaks.
trip();
$node->append_conf('postgresql.conf', 'dbopt.max_handlers = 1');
$node->restart;
is(state_of_breaker(), 'OPEN|1|infinity', 'restored with fewer slots');

$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
kill 'KILL', $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
ok($node->poll_query_until('postgres',
		"SELECT state = 'CLOSED' FROM dbopt_circuit_breakers() WHERE name = 'database'"),
	'breaker starts anew after a crash');
ok(!-e $file, '... which leaves no file');

# Without the library preloaded, what needs shared memory says so; policies,
# dead letters and the backlog do not need it.
trip();
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
foreach my $call (
	'dbopt_circuit_breakers()', "dbopt_circuit_breaker_state('database')",
	'dbopt_reset_circuit_breaker()', "dbopt_trip_circuit_breaker('database')",
	'dbopt_retry_stats()', 'dbopt_reset_stats()')
{
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");

	like($err, qr/ERROR:  55000: .*HINT: .*shared_preload_libraries/s, "$call needs the library preloaded");
}
is( $node->safe_psql(
		'postgres',
		"SELECT dbopt_is_retryable('40001'), dbopt_retry_delay(1, 'default', 0.5),"
		  . ' dbopt_replay_dead_letters(), (SELECT count(*) FROM dbopt_backlog()), (SELECT count(*) FROM dbopt_dead_letters)'),
	't|00:00:01|0|0|0',
	'what works without it');
$node->safe_psql('postgres', 'UPDATE dbopt_retry_policy SET max_attempts = 6');

# Nothing was delivered meanwhile: the file is still what it was.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'dbopt'");
$node->restart;
is(state_of_breaker(), 'OPEN|1|infinity', 'the file waits until the library is preloaded again');

$node->stop;
done_testing();
