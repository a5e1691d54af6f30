# Events of a mark_processed table that are read in several parts within one
# transaction: each is delivered once and marked.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('marking');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nautovacuum = off");
$node->start;

# Each in the middle of its chunk, some events fail for good: those around
# them run again one by one.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events');
	CREATE TABLE done (event_id uuid);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.aggregate_version IN (1500, 4444) THEN
			RAISE EXCEPTION 'bad' USING ERRCODE = 'data_exception';
		END IF;
		INSERT INTO done VALUES (e.id);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		max_concurrency => 1);
	INSERT INTO events
		(event_type, aggregate_type, aggregate_id, aggregate_version, data)
	SELECT 'TEST', 'test', dbopt_uuid_v7(), i, '{}'
	FROM generate_series(1, 6000) i;
});

is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}),
	't', 'every event is delivered or given up');

# The sessions report what they have read when their jobs end.
$node->poll_query_until('postgres',
	q{SELECT n_tup_upd >= 5998 FROM pg_stat_user_tables WHERE relname = 'events'}
) or die 'the updates were not reported';
is( $node->safe_psql(
		'postgres',
		q{SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events'}),
	'0',
	'the table, without statistics, is not read as a whole to mark them');
is( $node->safe_psql(
		'postgres', 'SELECT count(*), count(DISTINCT event_id) FROM done'),
	'5998|5998',
	'the good ones once');
is( $node->safe_psql(
		'postgres', q{
		SELECT count(*) FROM events e
		WHERE processed AND processed_at IS NOT NULL AND retry_count = 0
			AND EXISTS (SELECT FROM done WHERE event_id = e.id)}),
	'5998',
	'and they are marked');
is( $node->safe_psql(
		'postgres', q{
		SELECT aggregate_version, retry_count, error_message FROM events
		WHERE NOT processed ORDER BY 1}),
	"1500|1|bad\n4444|1|bad",
	'the bad ones are not');

# Triggers of the table run with the marking, as its owner, also those that are
# deferred, of the table itself or of one that they write to.  What the handler
# has deferred runs as its role.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE boss LOGIN;
	GRANT CREATE ON SCHEMA public TO boss;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, retry_unknown, failure_threshold)
	VALUES ('quick', 2, '10 ms', '10 ms', true, 1000);
	CREATE TABLE orders (id int PRIMARY KEY, event_type text NOT NULL, processed boolean NOT NULL DEFAULT false,
		retry_count int, error_message text, fault text);
	SELECT dbopt_attach_events('orders');
	GRANT SELECT, UPDATE ON orders TO app;
	CREATE TABLE marked (id int, by name, kind text);
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	GRANT INSERT ON marked, parent, child TO app, boss;
	ALTER TABLE orders OWNER TO boss;
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
	BEGIN
		IF to_jsonb(NEW) ->> 'fault' IS NOT NULL THEN
			PERFORM CASE WHEN NEW.fault = 'slow' THEN pg_sleep(3600) END; -- work
			RAISE EXCEPTION 'no mark for %', NEW.id USING ERRCODE = NEW.fault;
		END IF;
		IF to_jsonb(NEW) ->> 'processed' = 'false' THEN
			RETURN NULL;
		END IF;
		INSERT INTO marked VALUES (NEW.id, current_user, TG_ARGV[0]);
		IF TG_TABLE_NAME = 'orders' THEN
			INSERT INTO parent VALUES (NEW.id);
			INSERT INTO child VALUES (NEW.id);
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION note('mark');
	CREATE TABLE effects (id int);
	GRANT INSERT ON effects TO app;
	CREATE CONSTRAINT TRIGGER note AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION note('effect');
	CREATE FUNCTION handle_order(e orders) RETURNS void LANGUAGE sql AS 'INSERT INTO effects VALUES (e.id)';
	CREATE FUNCTION fail_first(e orders) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.retry_count IS NULL THEN
			RAISE EXCEPTION 'not yet';
		END IF;
		INSERT INTO effects VALUES (e.id);
	END $$;
	SELECT dbopt_register_handler('order', 'ORDER', 'handle_order(orders)', run_as => 'app', policy => 'quick',
			max_concurrency => 1, events => 'orders'),
		dbopt_register_handler('second', 'SECOND', 'fail_first(orders)', events => 'orders', run_as => 'app', policy => 'quick');
	SELECT dbopt_pause_handler('order');
	INSERT INTO orders (id, event_type) SELECT i, 'ORDER' FROM generate_series(1, 40) i;
	INSERT INTO orders (id, event_type) SELECT i, 'SECOND' FROM generate_series(41, 45) i;
	SELECT dbopt_resume_handler('order');
});
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'events of a table with deferred triggers');
is($node->safe_psql('postgres', 'SELECT count(*) FROM orders WHERE processed'), '45', 'are marked, retries as well');
is( $node->safe_psql('postgres', q{SELECT kind, by, count(DISTINCT id) FROM marked GROUP BY kind, by ORDER BY kind}),
	"effect|app|45\nmark|boss|45", 'as the owner, and what the handler has deferred as its role');
is($node->safe_psql('postgres', 'SELECT retry_count, count(*) FROM orders GROUP BY 1 ORDER BY 1'), "0|40\n1|5", 'with their failures before');

# The columns beside processed may be of other types, too, as tables that were
# there before have them.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE old (id int PRIMARY KEY, event_type text NOT NULL, processed boolean, processed_at timestamp, retry_count smallint,
		error_message varchar(7));
	SELECT dbopt_attach_events('old');
	CREATE FUNCTION handle_old(e old) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id = 2 OR e.id = 3 AND e.retry_count IS NULL THEN
			RAISE EXCEPTION 'not this one' USING ERRCODE = CASE e.id WHEN 2 THEN 'data_exception' ELSE 'P0001' END;
		END IF;
	END $$;
	SELECT dbopt_register_handler('old', '*', 'handle_old(old)', events => 'old', policy => 'quick');
	INSERT INTO dbopt_retryable_error (policy, sqlstate, retryable) VALUES ('quick', '22000', false);
	INSERT INTO old (id, event_type) VALUES (1, 'A'), (2, 'A'), (3, 'A')});
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'events with other columns');
is( $node->safe_psql('postgres', q{SELECT id, processed, abs(extract(epoch FROM processed_at - localtimestamp)) < 600, retry_count, error_message FROM old ORDER BY id}),
	"1|t|t|0|\n2|||1|not thi\n3|t|t|1|", 'are marked, texts cut to their length');
$node->safe_psql('postgres', q{
	DELETE FROM dbopt_retryable_error WHERE policy = 'quick';
	ALTER TABLE old ALTER COLUMN retry_count TYPE bigint;
	INSERT INTO old (id, event_type) VALUES (4, 'A')});
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'and when that changes');
is($node->safe_psql('postgres', 'SELECT processed, retry_count FROM old WHERE id = 4'), 't|0', '... they still are');
$node->safe_psql('postgres', q{SELECT dbopt_unregister_handler('old', true), dbopt_detach_events('old')});

# A trigger that fails is a failure of its event, and of no other.
$node->safe_psql(
	'postgres', q{
	SELECT dbopt_register_handler('order', 'ORDER', 'handle_order(orders)', run_as => 'app', policy => 'quick', timeout => '2 s',
		max_concurrency => 1, events => 'orders', replace => true);
	SELECT dbopt_pause_handler('order');
	INSERT INTO orders (id, event_type, fault)
	SELECT i, 'ORDER', CASE i WHEN 107 THEN '22023' WHEN 113 THEN 'slow' END FROM generate_series(101, 120) i;
	SELECT dbopt_resume_handler('order');
});
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'two events that cannot be marked');
is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE NOT processed}), '107 113', 'are not marked');
is( $node->safe_psql('postgres', q{SELECT event_id, attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'order' ORDER BY 1}),
	"107|2|22023|no mark for 107\n113|2|57014|handler \"order\" was cancelled by its timeout of 2000 ms", 'but given up by their policy');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effects WHERE id > 100'), '18', 'the others have their effect once');
unlike(slurp_file($node->logfile), qr/a job of handler .* failed/, 'no job has failed');

# UPDATE alone does not do.
$node->safe_psql('postgres', q{
	REVOKE SELECT ON orders FROM app;
	INSERT INTO orders (id, event_type) VALUES (201, 'ORDER')});
ok($node->poll_query_until('postgres', q{SELECT state || ': ' || reason FROM dbopt_handlers WHERE name = 'order'},
	'broken: its role may not read the events table any more: GRANT SELECT on the table, then dbopt_resume_handler()'), 'a role that may mark, but not read, has a broken handler');

$node->stop;
done_testing();
