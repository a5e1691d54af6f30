# What is known of a handler, in shared memory, is of no use to another one that
# has got its number: that of an extension that was created anew, or of a database
# that is no longer there.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('stay');
$node->init;

# There is room for two circuit breakers "database" and one handler.
$node->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	dbopt.max_handlers = 3
	fsync = off
});
$node->start;
asking($node);

my $install = q{
	CREATE EXTENSION dbopt;
	SELECT dbopt_attach_events('events');
	SELECT dbopt_register_handler('handler', '*', 'handle(events)');
};
my $drop = 'DROP EXTENSION dbopt CASCADE;';
my $breakers = 'SELECT name, state, successes FROM dbopt_circuit_breakers()';
my $trip = q{SELECT dbopt_trip_circuit_breaker('handler'), dbopt_trip_circuit_breaker('database');};

sub delivers
{
	my ($name) = @_;

	sql("TRUNCATE done; INSERT INTO events (event_type) VALUES ('A')");
	becomes('SELECT count(*) FROM done', '1', $name);
	becomes("SELECT successes FROM dbopt_retry_stats()", '1', 'it is counted');
	return;
}

sql(qq{
	CREATE EXTENSION pg_trgm;
	CREATE TABLE events (id serial PRIMARY KEY, event_type text NOT NULL);
	CREATE TABLE done (id int);
	CREATE FUNCTION handle(events) RETURNS void LANGUAGE sql AS 'INSERT INTO public.done VALUES (\$1.id)';
	$install});
delivers('an event is delivered');

# ---- the extension -------------------------------------------------------------

sql($trip);
is(sql($breakers), "database|OPEN|0\nhandler|OPEN|1", 'circuit breakers are open');
sql("BEGIN; $drop $install ROLLBACK");
is(sql($breakers), "database|OPEN|0\nhandler|OPEN|1", 'they stay so when it is not dropped in the end');
sql("BEGIN; SAVEPOINT s; $drop $install ROLLBACK TO s; COMMIT");
is(sql($breakers), "database|OPEN|0\nhandler|OPEN|1", '... with a savepoint as well');
sql("BEGIN; $drop $install COMMIT");
becomes($breakers, "database|CLOSED|0\nhandler|CLOSED|0", 'those of one that is created anew are closed');
delivers('its handler gets events');

# ---- both, while the library is not preloaded ----------------------------------

sql('CREATE DATABASE other');
sql('CREATE EXTENSION dbopt CASCADE', 'other');
sql(q{SELECT dbopt_trip_circuit_breaker('database')}, 'other');
sql($trip);
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
sql('DROP DATABASE other');
sql("$drop CREATE EXTENSION dbopt; SELECT dbopt_attach_events('events')");
$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
sql(q{SELECT dbopt_register_handler('first', 'A', 'handle(events)'), dbopt_register_handler('second', 'B', 'handle(events)')});
becomes($breakers, "database|CLOSED|0\nfirst|CLOSED|0\nsecond|CLOSED|0", 'nor are they open after a restart');
becomes(q{SELECT stats_since IS NOT NULL FROM dbopt_retry_stats() WHERE handler = 'second'},
	't', 'a slot of a database that has gone is given to another handler');

$node->stop;
done_testing();
