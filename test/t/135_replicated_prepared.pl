# Logical replication of prepared transactions: what the subscription commits has
# no statement that tells of it, and is delivered at once all the same.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $events = q{CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL); CREATE TABLE other (id int)};

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', 'max_prepared_transactions = 10');
$publisher->start;
$publisher->safe_psql('postgres', "$events; CREATE PUBLICATION events FOR ALL TABLES");

my $node = PostgreSQL::Test::Cluster->new('subscriber');
$node->init;
$node->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 24
	max_prepared_transactions = 10
});
$node->start;
asking($node);
sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	$events;
	CREATE TABLE seen (id int);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen VALUES (e.id)';
	SELECT dbopt_attach_events('log');
	SELECT dbopt_register_handler('see', '*', 'see(log)')});
sql("CREATE SUBSCRIPTION events CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION events WITH (two_phase = true)");
$node->wait_for_subscription_sync($publisher, 'events');
becomes('SELECT subtwophasestate FROM pg_subscription', 'e', 'prepared transactions are replicated');

my $prepared = 'SELECT count(*) FROM pg_prepared_xacts';

sub publish
{
	my ($statement) = @_;

	$publisher->safe_psql('postgres', $statement);
	$publisher->wait_for_catchup('events');
	return;
}

sub is_seen
{
	my ($ids, $name) = @_;

	becomes(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM seen}, $ids, $name);
	return;
}

publish(q{INSERT INTO log VALUES (1, 'A')});
is_seen('1', 'an event');

# Of a type that is known, of one that is new, and several at a time.
publish(q{BEGIN; INSERT INTO log VALUES (2, 'A'); PREPARE TRANSACTION 'two'});
publish(q{BEGIN; INSERT INTO log VALUES (3, 'B'); PREPARE TRANSACTION 'three'});
publish(q{BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'other'});
is(sql($prepared), '3', 'prepared transactions wait');
is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... and nothing else');
publish(q{COMMIT PREPARED 'three'});
is_seen('1 3', 'one is committed');
publish(q{ROLLBACK PREPARED 'other'});
publish(q{COMMIT PREPARED 'two'});
is_seen('1 2 3', 'and another');

# A rolled back one is none.
publish(q{BEGIN; INSERT INTO log VALUES (4, 'A'); PREPARE TRANSACTION 'four'});
publish(q{ROLLBACK PREPARED 'four'});
publish(q{BEGIN; INSERT INTO log VALUES (5, 'A'); PREPARE TRANSACTION 'five'});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'another one waits');

# The server that has prepared it starts anew.
$node->restart;
ok($node->poll_query_until('postgres', q{SELECT status = 'healthy' FROM dbopt_health() WHERE check_name = 'scheduler'}), 'after a restart');
publish(q{INSERT INTO other VALUES (2)});
is(sql($prepared), '1', '... it is still there');
is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... and nothing else waits');
publish(q{COMMIT PREPARED 'five'});
is_seen('1 2 3 5', '... until it is committed');

$node->stop;
$publisher->stop;
done_testing();
