# A partition that is attached while a session has the log open and waits for a
# lock: what is written to it, or moved there, is delivered all the same.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use ExactlyOnce;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TestModule;

my $node = PostgreSQL::Test::Cluster->new('attached');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 3");
$node->start;

$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY, part int, event_type text DEFAULT 'T',
		created_at timestamptz DEFAULT now(), PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
	SELECT dbopt_attach_events('parts', 'id');
	CREATE TABLE effects (handler text, id int);
	CREATE TABLE refused (id int);
	CREATE FUNCTION handle(e parts) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('handle', e.id);
		IF e.id IN (SELECT id FROM refused) THEN RAISE 'refused'; END IF;
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold, reset_timeout)
	VALUES ('again', 1000, '20 ms', '20 ms', 'none', true, 1000000, '1 s');
	SELECT dbopt_register_handler('handle', '*', 'handle(parts)', policy => 'again');
	INSERT INTO parts (part) VALUES (1);
});
drained($node, 'a first event');

sub waits
{
	my ($who, $kind, $name) = @_;

	return ok(
		$node->poll_query_until('postgres', qq{
			SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE NOT granted AND backend_type = '$who' AND locktype = '$kind'}),
		$name);
}

sub attach
{
	my ($part) = @_;

	$node->safe_psql('postgres', qq{
		CREATE TABLE parts_$part (LIKE parts INCLUDING ALL EXCLUDING IDENTITY);
		ALTER TABLE parts ATTACH PARTITION parts_$part FOR VALUES IN ($part)});
	return;
}

my $locker = $node->background_psql('postgres');

# An event is moved to a partition attached while a session waits for a table;
# and nothing is refused any more.
sub move_meanwhile
{
	my ($table, $condition, $part, $name) = @_;

	$locker->query_safe("BEGIN; LOCK TABLE $table IN EXCLUSIVE MODE");
	waits('dbopt session', 'relation', $name);
	attach($part);
	$node->safe_psql('postgres', "UPDATE parts SET part = $part WHERE $condition; DELETE FROM refused");
	$locker->query_safe('COMMIT');
	return;
}

my $writer = $node->background_psql('postgres');

# A transaction that the cursor leaves behind as a hole writes to a new
# partition, while a session waits for the cursor: another one has it, and waits
# to write down what it has handed out.
$writer->query_safe('BEGIN; SELECT pg_current_xact_id()');
$node->safe_psql('postgres', 'INSERT INTO parts (part) VALUES (1)');
drained($node, 'an event behind an open transaction');
$locker->query_safe('BEGIN; LOCK TABLE dbopt_chunk IN EXCLUSIVE MODE');
$node->safe_psql('postgres', 'INSERT INTO parts (part) VALUES (1)');
waits('dbopt session', 'relation', 'a session has handed out');
$node->safe_psql('postgres', 'INSERT INTO parts (part) VALUES (1)');
waits('dbopt session', 'object', '... and another one waits for the cursor');
attach(3);
$writer->query_safe('INSERT INTO parts (part) VALUES (3); COMMIT');
$locker->query_safe('ROLLBACK');
drained($node, 'an event in a partition attached before it was handed out');
each_once($node, 'handle', 'parts', 'id', 5);

# A retry, whose event moves while a session has the log open and waits for
# the retry queue.
$node->safe_psql('postgres', q{
	INSERT INTO refused SELECT max(id) + 1 FROM parts;
	INSERT INTO parts (part) VALUES (2)});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM dbopt_pending_retries'), 'a retry waits');
move_meanwhile('dbopt_retry_queue', 'part = 2', 4, 'a session waits for the retry queue');
drained($node, 'a retry whose event was moved to a partition attached meanwhile');
each_once($node, 'handle', 'parts', 'id', 6);

# What has been delivered, asked for while a partition is locked.
$node->safe_psql('postgres', q{SELECT dbopt_pause_handler('handle')});
$writer->query_safe('BEGIN');
my $position = $writer->query_safe('SELECT pg_current_xact_id()');
$node->safe_psql('postgres', 'INSERT INTO parts (part) VALUES (1)');
$locker->query_safe('BEGIN; LOCK TABLE parts_2');
my $reader = $node->background_psql('postgres');
$reader->query_until(qr/asked/, "\\echo asked\nSELECT 'delivered before ' || delivered_before FROM dbopt_sources;\n");
waits('client backend', 'relation', 'somebody who asks what has been delivered waits');
attach(5);
$writer->query_safe('INSERT INTO parts (part) VALUES (5); COMMIT');
$locker->query_safe('COMMIT');
ok(pump_until($reader->{run}, $reader->{timeout}, \$reader->{stdout}, qr/delivered before \d/), 'and gets an answer');
like($reader->{stdout}, qr/delivered before $position$/m, '... which spares what a partition holds that was attached meanwhile');
$node->safe_psql('postgres', q{SELECT dbopt_resume_handler('handle')});
drained($node, 'the last events');
each_once($node, 'handle', 'parts', 'id', 8);
no_job_failed($node);

# Retries of an ordered handler that follow a due one, of which one is moved
# while a session waits to look for them.
$node->safe_psql('postgres', q{
	SELECT dbopt_unregister_handler('handle', true);
	TRUNCATE parts, effects;
	ALTER TABLE parts ADD aggregate_type text DEFAULT 'a', ADD aggregate_id int DEFAULT 1, ADD aggregate_version int;
	CREATE INDEX ON parts (aggregate_type, aggregate_id, aggregate_version);
	SELECT dbopt_register_handler('handle', '*', 'handle(parts)', policy => 'again', ordered => true);
	INSERT INTO refused SELECT last_value + 1 FROM parts_id_seq;
	INSERT INTO parts (part, aggregate_version) SELECT 2, generate_series(1, 3)});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM dbopt_pending_retries'), 'an event fails, and others are held back');
move_meanwhile('dbopt_ordered', 'aggregate_version = 2', 6, 'a session waits for what is held back');
drained($node, 'events of one aggregate, of which one was moved');
each_once($node, 'handle', 'parts', 'id', 3);
is($node->safe_psql('postgres', 'SELECT string_agg(aggregate_version::text, NULL ORDER BY effects.ctid) FROM effects JOIN parts USING (id)'),
	'123', '... in their order');

# The first partition of a table that is one itself.  A transaction that has
# committed may not have told others yet, who know of none.
my $module = build_module();
my $told = $node->basedir . '/told';
$node->safe_psql('postgres', qq{
	CREATE FUNCTION linger(text) RETURNS void LANGUAGE C STRICT AS '$module/dbopt_test', 'linger';
	SELECT dbopt_unregister_handler('handle', true);
	DROP TABLE parts, effects CASCADE;
	CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY, part int, event_type text DEFAULT 'T', PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2) PARTITION BY LIST (part);
	SELECT dbopt_attach_events('parts', 'id');
	CREATE TABLE effects (handler text, id int);
	CREATE FUNCTION handle(e parts) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO effects VALUES ('handle', e.id) \$\$;
	SELECT dbopt_register_handler('handle', '*', 'handle(parts)', max_concurrency => 1);
	INSERT INTO parts (part) VALUES (1)});
drained($node, 'an event of the only partition');
$writer->query_safe("BEGIN; SELECT linger('$told')");
$writer->query_safe(q{
	CREATE TABLE parts_3 (LIKE parts INCLUDING ALL EXCLUDING IDENTITY);
	ALTER TABLE parts_2 ATTACH PARTITION parts_3 FOR VALUES IN (2);
	INSERT INTO parts (part) VALUES (2)});
$writer->query_until(qr/sent/, "\\echo sent\nCOMMIT;\n");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_inherits WHERE inhparent = 'parts_2'::regclass}), 'another partition, with an event');
$node->safe_psql('postgres', 'INSERT INTO parts (part) VALUES (1)');
ok($node->poll_query_until('postgres', q{
		SELECT count(*) = 2 OR EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE NOT granted AND backend_type = 'dbopt session') FROM effects}), '... and a session that hands out');
append_to_file($told, '');
drained($node, 'the first event of a partition');
each_once($node, 'handle', 'parts', 'id', 3);
$_->quit foreach $locker, $writer, $reader;

$node->stop;
done_testing();
