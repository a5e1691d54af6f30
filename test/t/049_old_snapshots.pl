# What is asked and done in a transaction that has one snapshot for all of it, and
# an old one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('old_snapshots');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text DEFAULT 'T', aggregate_type text, aggregate_id int, aggregate_version int);
	CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO effects VALUES ('handle', e.id);
	END $$;
	SELECT dbopt_register_handler('handle', 'T', 'handle(log)', ordered => true);
	INSERT INTO log DEFAULT VALUES});
drained($node, 'a first event');

# An event in flight that the transaction does not know of.
my $holder = $node->background_psql('postgres');
my $old = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql('INSERT INTO log DEFAULT VALUES');
becomes(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND backend_type = 'dbopt session'}, '1', 'an event runs');
cmp_ok($old->query_safe('SELECT delivered_before FROM dbopt_sources'), '<=', sql('SELECT max(log_position) FROM log'), 'it is not taken for delivered');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
drained($node, 'it has run');
each_once($node, 'handle', 'log', 'id', 2);

# What is held back meanwhile is to be seen by whoever releases it.
like(failure(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT dbopt_register_handler('handle', 'T', 'handle(log)', replace => true)}),
	qr/ERROR:  25001: cannot change a handler's place in the log in a transaction of this isolation level/, 'an order cannot be given up with an old snapshot');

$_->quit foreach $holder, $old;
$node->stop;
done_testing();
