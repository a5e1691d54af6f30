# Events of a transaction that is still to run them, and that its own handlers
# update, or others move to a partition that they attach meanwhile: those are
# delivered and marked, too.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('meanwhile');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
asking($node);

# Each event tells the two behind it.  Two of the large ones are read at a time.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log (id int, part int DEFAULT 1, event_type text, processed boolean NOT NULL DEFAULT false, told int DEFAULT 0, load text,
		PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
	CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
	SELECT dbopt_attach_events('log', 'id');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'RETRY' AND NOT EXISTS (SELECT FROM dbopt_pending_retries WHERE event_id = e.id::text) THEN
			RAISE lock_not_available;
		END IF;
		UPDATE log SET told = told + 1 WHERE id IN (e.id + 1, e.id + 2);
		UPDATE log SET part = 2 WHERE id = e.id + 1 AND id % 4 = 0;
		INSERT INTO effects VALUES ('handle', e.id);
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('again', 1000, '2 s', '2 s', 'none', 1000000);
	SELECT dbopt_register_handler('handle', '*', 'handle(log)', policy => 'again', max_concurrency => 1);
	INSERT INTO log (id, event_type, load) SELECT n, 'LARGE', repeat('x', 3000000) FROM generate_series(1, 12) n});
drained($node, 'events of one chunk');
each_once($node, 'handle', 'log', 'id', 12);
is(sql('SELECT count(*) FROM log WHERE processed'), '12', '... and all are marked');

# Writes so many events that fail at first, and whose retries are all due when
# the handler goes on, and not before.
sub fail_at_first
{
	my ($handler, $count, $insert) = @_;

	sql(q{UPDATE dbopt_retry_policy SET base_delay = '1 h', max_delay = '1 h' WHERE name = 'again'});
	sql($insert);
	becomes('SELECT count(*) FROM dbopt_pending_retries', $count, 'others fail at first');
	sql(qq{
		SELECT dbopt_pause_handler('$handler');
		UPDATE dbopt_retry_policy SET base_delay = '2 s', max_delay = '2 s' WHERE name = 'again';
		UPDATE dbopt_retry_queue SET next_retry_at = now()});
	return;
}

fail_at_first('handle', 12, q{INSERT INTO log (id, event_type) SELECT n, 'RETRY' FROM generate_series(101, 112) n});
sql(q{SELECT dbopt_resume_handler('handle')});
drained($node, 'retries');
each_once($node, 'handle', 'log', 'id', 24);
is(sql('SELECT count(*) FROM log WHERE processed'), '24', '... and all are marked');

# Partitions that are attached meanwhile.
sql(q{
	CREATE FUNCTION hold(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'HELD RETRY' AND NOT EXISTS (SELECT FROM dbopt_pending_retries WHERE event_id = e.id::text) THEN
			RAISE lock_not_available;
		END IF;
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO effects VALUES ('handle', e.id);
	END $$;
	SELECT dbopt_register_handler('hold', 'HELD*', 'hold(log)', policy => 'again', max_concurrency => 1)});
my $holder = asked();

# The last of them moves while the first of them runs.
sub move_meanwhile
{
	my ($part, $id, $start) = @_;

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql($start);
	becomes(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'advisory'}, '1', 'the first of some events runs');
	sql(qq{
		CREATE TABLE log_$part (LIKE log INCLUDING ALL);
		ALTER TABLE log ATTACH PARTITION log_$part FOR VALUES IN ($part)});
	sql("UPDATE log SET part = $part WHERE id = $id");
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	drained($node, '... and the last has moved to a partition attached meanwhile');
	return;
}

move_meanwhile(3, 206, q{INSERT INTO log (id, event_type, load) SELECT n, 'HELD', repeat('x', 3000000) FROM generate_series(201, 206) n});
each_once($node, 'handle', 'log', 'id', 30);
is(sql('SELECT count(*) FROM log WHERE processed'), '30', '... and all are marked');

fail_at_first('hold', 6, q{INSERT INTO log (id, event_type) SELECT n, 'HELD RETRY' FROM generate_series(301, 306) n});
move_meanwhile(4, 306, q{SELECT dbopt_resume_handler('hold')});
each_once($node, 'handle', 'log', 'id', 36);
is(sql('SELECT count(*) FROM log WHERE processed'), '36', '... and all are marked');
$holder->quit;
no_job_failed($node);

$node->stop;
done_testing();
