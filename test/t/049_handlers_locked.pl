# A transaction that removes, replays or changes a handler of a log, and stays
# open: the handler's events wait for it, and no session does, so that others'
# events are delivered.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('handlers_locked');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 1");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text, created_at timestamptz DEFAULT now(),
		aggregate_type text DEFAULT 'a', aggregate_id int DEFAULT 1, aggregate_version int DEFAULT 0);
	CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
	SELECT dbopt_attach_events('log');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE sql AS 'INSERT INTO effects VALUES (e.event_type, e.id)';
	SELECT dbopt_register_handler(t, t, 'handle(log)', ordered => t ^@ 'ordered')
	FROM unnest('{simple,beside,ordered,ordered beside}'::text[]) t;
});

my $delivered = q{SELECT count(*) FROM effects WHERE handler = '%s'};
my $holder = $node->background_psql('postgres');
my $round = 0;

sub waits_alone
{
	my ($handler, $statement) = @_;
	my $told = -s $node->logfile;

	$round++;
	$holder->query_safe("BEGIN; SELECT $statement");
	sql("INSERT INTO log (event_type, aggregate_version) VALUES ('$handler', $round)");
	ok($node->wait_for_log(qr/events of handler "$handler" wait for a lock on it/, $told), "$statement: its events wait");
	sql("INSERT INTO log (event_type, aggregate_version) VALUES ('beside', $round), ('ordered beside', $round)");
	becomes(sprintf($delivered, $_), $round, "... and events of handler $_ do not") foreach ('beside', 'ordered beside');
	is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event_type = 'Lock'}), '0', '... and no session does');
	is(sql(q{SELECT dbopt_drain('100 ms')}), 'f', '... they are not forgotten');
	$holder->query_safe('ROLLBACK');
	drained($node, '... and go on');
	return;
}

waits_alone('simple', q{dbopt_unregister_handler('simple')});
waits_alone('simple', q{dbopt_replay('simple', 'infinity')});
waits_alone('ordered', q{dbopt_register_handler('ordered', 'ordered', 'handle(log)', replace => true)});
waits_alone('simple', q{dbopt_register_handler('simple', 'simple', 'handle(log)', replace => true, ordered => true)});
is(sql('SELECT count(*), count(DISTINCT id) FROM effects'), '12|12', 'each event was delivered once');

# A handler that replays itself is refused, and has failed.
sql(q{
	CREATE FUNCTION replay(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT EXISTS (SELECT FROM dbopt_pending_retries WHERE event_id = e.id::text) THEN RAISE lock_not_available; END IF;
		PERFORM dbopt_replay('again', '-infinity');
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
	VALUES ('twice', 2, '10 ms', '10 ms', 'none', true);
	SELECT dbopt_register_handler('again', 'again', 'replay(log)', policy => 'twice');
	INSERT INTO log (event_type) VALUES ('again')});
becomes(q{SELECT error_code || ' ' || error_message FROM dbopt_dead_letters}, '55006 handler "again" cannot replay itself', 'a retry that replays its own handler');
no_job_failed($node);

$holder->quit;
$node->stop;
done_testing();
