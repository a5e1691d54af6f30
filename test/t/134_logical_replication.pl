# Logical replication of an events table: publisher and subscriber each deliver
# the events once, by positions of their own.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub node
{
	my ($name, $partitioned) = @_;
	my $parts = $partitioned ? q{
		PARTITION BY RANGE (day);
		CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
		CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)} : '';
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 'logical');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 24");
	$node->start;
	$node->safe_psql('postgres', qq{
		CREATE EXTENSION dbopt CASCADE;
		CREATE TABLE log (id bigint PRIMARY KEY, event_type text NOT NULL, data text);
		CREATE TABLE parts (id int, day int, event_type text, PRIMARY KEY (id, day)) $parts;
		CREATE TABLE seen (what text, id bigint);
		CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql
			AS 'INSERT INTO seen VALUES (''log'', e.id)';
		CREATE FUNCTION see(e parts) RETURNS void LANGUAGE sql
			AS 'INSERT INTO seen VALUES (''parts'', e.id)';
		SELECT dbopt_attach_events('log'), dbopt_attach_events('parts', 'id');
		SELECT dbopt_register_handler('log', '*', 'see(log)', events => 'log'),
			dbopt_register_handler('parts', '*', 'see(parts)', events => 'parts');
	});
	return $node;
}

my $publisher = node('publisher', 0);
my $subscriber = node('subscriber', 1);
my $seen = q{
	SELECT count(*), count(DISTINCT (what, id)), (SELECT count(*) FROM log) + (SELECT count(*) FROM parts) FROM seen};

# Rows that are there when the subscription is made, and are copied, get
# positions of the subscriber: the publisher's are far above them.
$publisher->safe_psql('postgres', 'UPDATE dbopt_database SET position_offset = 1000000000');
$publisher->restart;
$publisher->safe_psql('postgres', q{
	INSERT INTO log SELECT n, 'A' || n % 3 FROM generate_series(1, 20) n;
	INSERT INTO parts SELECT n, n, 'P' FROM generate_series(1, 19) n;
	CREATE PUBLICATION events FOR TABLE log, parts});
is($publisher->safe_psql('postgres', 'SELECT dbopt_drain()'), 't', 'delivered by the publisher');
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION events CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION events");
$subscriber->wait_for_subscription_sync($publisher, 'events');
is($subscriber->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained by the subscriber');
is($subscriber->safe_psql('postgres', $seen), '39|39|39', 'the subscriber delivers what was copied, once');

# Streamed, from many transactions, also one that takes long and one undone.
my $open = $publisher->background_psql('postgres');
$open->query_safe(q{BEGIN; INSERT INTO log VALUES (500, 'A1'); INSERT INTO parts VALUES (500, 5, 'P')});
$publisher->safe_psql('postgres', "INSERT INTO log VALUES ($_, 'A1'); INSERT INTO parts VALUES ($_, $_ % 20, 'P')")
  foreach (21 .. 40);
$publisher->safe_psql('postgres', q{BEGIN; INSERT INTO log VALUES (600, 'A1'); ROLLBACK});
$publisher->wait_for_catchup('events');
$open->query_safe('COMMIT');
$open->quit;

# Updates and deletes are no news, also where they move a row to another
# partition; an update of the type is a new event.
$publisher->safe_psql('postgres', q{
	UPDATE log SET data = 'changed'; UPDATE parts SET day = 15 WHERE id = 1; DELETE FROM log WHERE id = 3});
$publisher->wait_for_catchup('events');
foreach my $node ($publisher, $subscriber)
{
	is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', $node->name . ': drained');
	is($node->safe_psql('postgres', $seen), '81|81|80', $node->name . ': each event once');
	is( $node->safe_psql('postgres', q{
			SELECT count(*) FROM (SELECT log_position FROM log UNION ALL SELECT log_position FROM parts) e
			 WHERE log_position >= 1000000000}) > 0,
		$node == $publisher, $node->name . ': its own positions');
}
$publisher->safe_psql('postgres', q{UPDATE log SET event_type = 'A9' WHERE id = 1});
$publisher->wait_for_catchup('events');
foreach my $node ($publisher, $subscriber)
{
	is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', $node->name . ': drained');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM seen WHERE what = $$log$$ AND id = 1'), '2',
		$node->name . ': a new type is a new event');
}
$subscriber->stop;
$publisher->stop;
done_testing();
