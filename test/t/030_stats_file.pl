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
ok(!-e $file, 'an immediate shutdown leaves no file');
$node->start;
is(state_of_breaker(), 'CLOSED|0|', 'and the breaker starts anew');

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

$node->stop;
done_testing();
