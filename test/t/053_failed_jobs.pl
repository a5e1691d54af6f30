# A job that fails outside its handler, or whose session is terminated, with
# events in its hands: they are not in flight any more, neither of that handler
# nor of the session's next one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('failed_jobs');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 1");
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int, part int, event_type text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
	CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
	SELECT dbopt_attach_events('log', 'id');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE sql
		AS 'SELECT pg_advisory_xact_lock_shared(1); INSERT INTO effects VALUES (e.event_type, e.id)';
	SELECT dbopt_register_handler('first', 'FIRST', 'handle(log)'), dbopt_register_handler('second', 'SECOND', 'handle(log)');
	INSERT INTO log SELECT n, 1, 'FIRST' FROM generate_series(1, 10) n});
drained($node, 'it is known how fast the handler is');

# Two rows under one identity, in one chunk of many.
my $told = -s $node->logfile;
sql(q{INSERT INTO log SELECT n, 1, 'FIRST' FROM generate_series(101, 140) n UNION ALL SELECT 120, 2, 'FIRST'});
ok($node->wait_for_log(qr/a job of handler "first" failed and is repeated/, $told), 'a job fails');
becomes(q{SELECT in_flight FROM dbopt_retry_stats() WHERE handler = 'first'}, '0', 'nothing is in flight any more');
sql(q{INSERT INTO log SELECT n, 1, 'SECOND' FROM generate_series(201, 210) n});
becomes(q{SELECT count(*) FROM effects WHERE handler = 'SECOND'}, '10', 'another handler goes on');
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
is(sql(q{SELECT string_agg(in_flight::text, ' ') FROM dbopt_retry_stats() WHERE handler IN ('first', 'second')}), '0 0', '... and its session ends with nothing in flight');

sql('DELETE FROM log WHERE part = 2');
drained($node, 'one of the rows is gone');

# A session that is terminated in the middle of a chunk.
my $in_flight = q{SELECT in_flight > 0 FROM dbopt_retry_stats() WHERE handler = 'second'};
my $holder = asked();
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql(q{INSERT INTO log SELECT n, 1, 'SECOND' FROM generate_series(301, 310) n});
becomes(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'advisory'}, '1', 'a handler waits');
is(sql($in_flight), 't', '... with events in flight');
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
becomes($in_flight, 'f', '... which they are not when its session has ended');
$holder->quit;
drained($node, 'another session has run them');
is(sql($in_flight), 'f', '... and has counted them off no more than that');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM effects}), '70|70', 'each event was delivered once');

$node->stop;
done_testing();
