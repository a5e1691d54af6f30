# Workers that are told to end, and a server that is restarted, under load:
# nothing is lost, nothing is doubled, and delivery resumes by itself.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Survival;
use Test::More;

my $node = survival_node('terminate');

start_writers($node);
delivers_again($node, 'at the beginning');

foreach my $type (qw(session scheduler launcher session))
{
	my $pid = kill_worker($node, $type, 'TERM');

	ok( $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"),
		"a $type ends when it is told to");
	delivers_again($node, "after the end of a $type");
}

# All sessions, in the middle of whatever they are at.
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt session'");
delivers_again($node, 'after the end of all sessions');
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ '^dbopt (session|scheduler|launcher)'");
delivers_again($node, 'after the end of all workers');

foreach my $mode (qw(fast immediate))
{
	$node->stop($mode);
	$node->start;
	delivers_again($node, "after a restart, $mode");
}

stop_writers();
ok( $node->poll_query_until('postgres',
		"SELECT state <> 'CLOSED' FROM dbopt_circuit_breakers() WHERE name = 'down'"),
	'a breaker was open, and is so again');
$node->safe_psql('postgres', "UPDATE switches SET is_on = false WHERE name = 'down'");
all_once($node, 'at the end');
$node->stop;
done_testing();
