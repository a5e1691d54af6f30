# Ordered handlers: the events of an aggregate are handled in the order of
# their versions, whatever order their transactions began in, how many
# sessions there are, and which of them fail.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('ordered');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag(sql('SELECT * FROM dbopt_pending_retries'),
		"\n", sql('SELECT * FROM dbopt_ordered'));
	return;
}

# Makes what waits for a later time due, and has the scheduler look.
sub make_due
{
	sql("UPDATE dbopt_retry_queue SET next_retry_at = now() WHERE next_retry_at < 'infinity'; SELECT dbopt_resume()");
	return;
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy
		(name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('fast', 1000, '1 ms', '10 ms', 'full', 1000000),
		('slow', 1000, '1 h', '1 h', 'none', 1000000);
	CREATE SEQUENCE calls;
});

# Events that were not handled once, or not in their place.
my $disorder = q{
	SELECT count(*) FROM (
		SELECT aggregate, version, row_number() OVER (PARTITION BY aggregate ORDER BY call) AS place
		  FROM done) AS d
	FULL JOIN (SELECT * FROM log WHERE event_type ^@ 'A.') AS e
		ON e.aggregate_id = d.aggregate AND e.aggregate_version = d.version
	WHERE d.version IS NULL OR e.id IS NULL OR d.version <> d.place};

# ---- versions from transactions that began in another order ----------------

foreach my $mark ('false', 'true')
{
	sql(qq{
	CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL,
		aggregate_type text, aggregate_id int, aggregate_version int);
	CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
	CREATE TABLE aggregate (id int PRIMARY KEY, version int NOT NULL DEFAULT 0);
	INSERT INTO aggregate SELECT generate_series(0, 5);
	CREATE TABLE done (call bigint DEFAULT nextval('calls'), aggregate int, version int);
	});
	sql('ALTER TABLE log ADD processed boolean NOT NULL DEFAULT false')
	  if $mark eq 'true';
	sql(q{
	SELECT dbopt_attach_events('log');
	CREATE FUNCTION handle(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF random() < 0.05 THEN
			RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done (aggregate, version) VALUES (e.aggregate_id, e.aggregate_version);
	END $$;
	SELECT dbopt_register_handler('handle', 'A.*', 'handle(log)', events => 'log', ordered => true,
		max_concurrency => 3, policy => 'fast', start_from => 'beginning');
	});

	# Whoever takes the lower position need not get the aggregate first.
	my $script = $node->basedir . "/writer_$mark.sql";
	append_to_file($script, q{
\set a random(0, 5)
\set t random(1, 3)
\set n random(1, 2000)
BEGIN;
SELECT pg_current_xact_id(), count(*) FROM generate_series(1, :n);
UPDATE aggregate SET version = version + 1 WHERE id = :a RETURNING version \gset
INSERT INTO log (event_type, aggregate_type, aggregate_id, aggregate_version)
VALUES ('A.' || :t, 'a', :a, :version), ('B', 'a', :a, :version);
COMMIT;
});
	$node->command_ok(
		[ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '250', '-f', $script, 'postgres' ],
		"eight writers (mark_processed $mark)");
	cmp_ok(
		sql(q{SELECT count(*) FROM log a JOIN log b USING (aggregate_id)
			WHERE a.event_type <> 'B' AND b.event_type <> 'B'
			  AND a.aggregate_version + 1 = b.aggregate_version AND a.log_position > b.log_position}),
		'>', 0, 'some versions have lower positions than those before them');
	is(sql(q{SELECT dbopt_drain('120 s')}), 't', 'all is delivered in the end');
	is(sql($disorder), '0', 'each event once, in the order of its version');
	is(sql('SELECT count(*) FROM done'), '2000', 'and no other');
	cmp_ok(sql(q{SELECT failures FROM dbopt_retry_stats() WHERE handler = 'handle'}),
		'>', 0, 'some have failed meanwhile');
	is(sql('SELECT (SELECT count(*) FROM dbopt_ordered), (SELECT count(*) FROM dbopt_retry_queue)'),
		'0|0', 'nothing is held back any more');

	# One transaction, in any order; versions are no log positions.
	sql(q{
		DELETE FROM done;
		INSERT INTO log (event_type, aggregate_type, aggregate_id, aggregate_version)
		SELECT 'A.1', 'b', a, v FROM generate_series(10, 12) a, generate_series(1, 200) v ORDER BY random()});
	is(sql(q{SELECT dbopt_drain('120 s')}), 't', 'a transaction with all versions');
	is(sql(q{SELECT count(*), count(*) FILTER (WHERE version <> place) FROM (SELECT version,
			row_number() OVER (PARTITION BY aggregate ORDER BY call) AS place FROM done) s}),
		'600|0', 'is handled in order, too');
	sql(q{
		SELECT dbopt_unregister_handler('handle');
		DROP TABLE log CASCADE; DROP TABLE done, aggregate;
	});
}

# ---- one that fails holds back its successors, and nobody else --------------

sql(q{
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE done (call bigint DEFAULT nextval('calls'), aggregate text, version int);
	CREATE TABLE mode (mode text);
	INSERT INTO mode VALUES ('later');
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.data ? 'fail' AND (SELECT mode FROM mode) = 'later' THEN
			RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available';
		ELSIF e.data ? 'fail' AND (SELECT mode FROM mode) = 'never' THEN
			RAISE EXCEPTION 'never' USING ERRCODE = 'data_exception';
		ELSIF e.data ? 'wait' THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
		INSERT INTO done (aggregate, version) VALUES (e.aggregate_type, e.aggregate_version);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)', ordered => true, max_concurrency => 3,
		policy => 'slow');
	INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data)
	SELECT 'T' || v % 3, t, '00000000-0000-0000-0000-000000000001', v,
		CASE WHEN t = 'bad' AND v = 3 THEN '{"fail": 1}'::jsonb ELSE '{}' END
	  FROM (VALUES ('bad'), ('good'), ('other')) AS a (t), generate_series(1, 120) v;
});

sub done
{
	return sql(qq{SELECT string_agg(version::text, ' ' ORDER BY call) FROM done WHERE aggregate = '$_[0]'});
}

my $all = join(' ', 1 .. 120);
becomes(q{SELECT count(*) FROM done}, '242', 'other aggregates go on');
is(done('good'), $all, 'in order');
is(done('bad'), '1 2', 'the one with a failure stops before it');
becomes(q{SELECT attempts, next_retry_at = 'infinity', error_code IS NULL, count(*)
	FROM dbopt_pending_retries GROUP BY 1, 2, 3 ORDER BY 1}, "0|t|t|117\n1|f|f|1",
	'its successors are held back');
make_due();
becomes(q{SELECT attempts FROM dbopt_pending_retries WHERE attempts > 0}, '2', 'it fails again');
is(done('bad'), '1 2', 'and holds them back still');
sql(q{UPDATE mode SET mode = 'never'});
make_due();
becomes(q{SELECT count(*) FROM done}, '359', 'once it is given up they go on');
is(done('bad'), join(' ', 1, 2, 4 .. 120), 'in order');
is(sql('SELECT attempts, error_message FROM dbopt_dead_letters'), '3|never', 'it is a dead letter');
is(sql(q{SELECT dbopt_drain()}), 't', 'their session is done');
is(sql('SELECT retries, successes_after_retry FROM dbopt_retry_stats()'),
	'2|0', 'what was held back counts as tried once');

# A dead letter that is delivered after all comes late, but holds back again.
sql(q{
	UPDATE mode SET mode = 'later';
	SELECT dbopt_replay_dead_letters();
});
becomes(q{SELECT attempts FROM dbopt_pending_retries}, '1', 'replayed, it fails');
sql(q{
	INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data)
	SELECT 'T', 'bad', '00000000-0000-0000-0000-000000000001', v, '{}' FROM generate_series(121, 122) v});
becomes(q{SELECT count(*) FROM dbopt_ordered}, '3', 'and holds back what comes then');
sql(q{UPDATE mode SET mode = 'ok'});
make_due();
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'until it succeeds');
is(done('bad'), join(' ', 1, 2, 4 .. 120, 3, 121, 122), 'in this order');

# ---- a predecessor that has not been run yet -------------------------------

# Hands out 62 events, the first of which waits for the lock that is returned.
# They are one chunk, as large as it may be for a handler that is known to be
# quick; undefined where it has been found slow.
sub hand_out
{
	my $holder = $node->background_psql('postgres');

	sql(q{
		SELECT dbopt_unregister_handler('handle');
		SELECT dbopt_register_handler('handle', '*', 'handle(events)', ordered => true, max_concurrency => 3,
			policy => 'slow', chunk_size => 62);
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT 'T', 'V', dbopt_uuid_v7(), '{}' FROM generate_series(1, 100);
	});
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'the handler is quick');
	sql('DELETE FROM done; DELETE FROM events');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql(q{
		INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		SELECT 'T', CASE v WHEN 62 THEN 'Z' ELSE 'W' || v END, '00000000-0000-0000-0000-000000000001', 1,
			CASE WHEN v = 1 THEN '{"wait": 1}'::jsonb ELSE '{}' END
		  FROM generate_series(1, 62) v;
	});
	becomes(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dbopt session' AND wait_event = 'advisory'}, '1', 'the first event waits');
	return $holder if sql('SELECT max(events) FROM dbopt_chunk') eq '62';
	$holder->quit;
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'the machine is slow');
	return;
}

# Z 1 is at the end of a chunk whose first event waits for the lock that is
# returned; Z 2 is in the next.
sub hand_out_behind
{
	my $holder;

	foreach my $attempt (1 .. 20)
	{
		last if defined($holder = hand_out());
	}
	die 'no chunk was large enough' unless defined $holder;
	sql(q{
		INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data)
		VALUES ('T', 'Z', '00000000-0000-0000-0000-000000000001', 2, '{}');
	});
	becomes(q{SELECT attempts, next_retry_at < 'infinity' FROM dbopt_pending_retries},
		'0|t', 'the event behind it is held back, for a time');
	return $holder;
}

my $holder = hand_out_behind();
make_due();
becomes(q{SELECT next_retry_at > now() + interval '1 s' FROM dbopt_pending_retries},
	't', 'and again');
is(done('Z'), '', 'it has not run');
$holder->quit;
becomes(q{SELECT count(*) FROM done}, '63', 'it is released by its predecessor');
is(done('Z'), '1 2', 'in order');

$holder = hand_out_behind();
sql(q{DELETE FROM events WHERE aggregate_type = 'Z' AND aggregate_version = 1});
make_due();
becomes(q{SELECT count(*) FROM done}, '1', 'a predecessor that has gone is not waited for');
is(done('Z'), '2', 'the next one runs');
$holder->quit;
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'all is delivered');

# ---- whose versions they are ------------------------------------------------

# On a mark_processed table an event is one handler's, and is waited for by
# that one alone; events without a version are in no order.
sql(q{
	CREATE TABLE todo (id bigint PRIMARY KEY, event_type text, aggregate_type text, aggregate_id uuid,
		aggregate_version numeric, processed boolean DEFAULT false);
	CREATE INDEX ON todo (aggregate_id, aggregate_version);
	SELECT dbopt_attach_events('todo');
	CREATE FUNCTION note(e todo) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO done (aggregate, version) VALUES ('todo', e.id) $$;
	DELETE FROM done;
	SELECT dbopt_register_handler('special', 'A.SPECIAL', 'note(todo)', events => 'todo', ordered => true);
	SELECT dbopt_register_handler('general', 'A.*', 'note(todo)', events => 'todo', ordered => true);
	SELECT dbopt_pause_handler('special');
	INSERT INTO todo VALUES
		(1, 'A.SPECIAL', 'a', '00000000-0000-0000-0000-000000000001', 1),
		(2, 'A.2', 'a', '00000000-0000-0000-0000-000000000001', 2.5),
		(3, 'A.1', 'a', '00000000-0000-0000-0000-000000000001', 2.25),
		(4, 'A.1', 'a', NULL, 1),
		(5, 'A.1', 'a', '00000000-0000-0000-0000-000000000001', NULL);
});
becomes(q{SELECT count(*) FROM done}, '4', 'another handler\'s version is not waited for');
is(sql(q{SELECT string_agg(version::text, ' ' ORDER BY call) FROM done WHERE version IN (2, 3)}),
	'3 2', 'numeric versions');
sql(q{SELECT dbopt_resume_handler('special')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'the other handler gets its own');
is(sql('SELECT count(*) FROM done'), '5', 'all are delivered');

# ---- of any size ---------------------------------------------------------------

# Names that no index could hold, and versions that differ in a place that
# only exact numbers have.
sql(q{
	CREATE TABLE large (id bigint PRIMARY KEY, event_type text, aggregate_type text, aggregate_id text, aggregate_version numeric);
	SELECT dbopt_attach_events('large');
	CREATE TABLE handled (call bigint DEFAULT nextval('calls'), id bigint);
	CREATE TABLE names AS
		SELECT n, (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 300) i) AS name FROM generate_series(1, 2) n;
	CREATE FUNCTION handle_large(e large) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id % 10 = 1 AND (SELECT mode <> 'ok' FROM mode) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO handled (id) VALUES (e.id);
	END $$;
	UPDATE mode SET mode = 'not yet';
	SELECT dbopt_register_handler('large', 'L', 'handle_large(large)', events => 'large', ordered => true, policy => 'slow');
	INSERT INTO large
	SELECT n * 100 + k * 10 + v, 'L', name, name || k,
		CASE k WHEN 1 THEN 9007199254740992 + v WHEN 2 THEN repeat('123456789', 800)::numeric + v ELSE v END
	  FROM names, generate_series(1, 3) k, generate_series(1, 5) v ORDER BY v DESC, n, k;
});
becomes(q{SELECT count(*) FROM dbopt_pending_retries WHERE handler = 'large'}, '30', 'long names and large versions are held back');
is(sql('SELECT count(*) FROM handled'), '0', 'in order');
sql(q{UPDATE mode SET mode = 'ok'});
make_due();
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'they are released');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE ids = '1 2 3 4 5') FROM (
	SELECT string_agg((id % 10)::text, ' ' ORDER BY call) AS ids FROM handled GROUP BY id / 10) x}), '6|6', 'in order');

# ---- one aggregate, several sessions --------------------------------------------

# Whoever may go on takes along what waits, so that sessions do not hold back
# again and again what is another one's turn.
sql(q{
	SELECT dbopt_create_events('hot', false);
	CREATE TABLE hot_done (call bigint DEFAULT nextval('calls'), version int);
	CREATE FUNCTION handle_hot(e hot) RETURNS void LANGUAGE sql AS
		'INSERT INTO hot_done (version) VALUES (e.aggregate_version)';
	SELECT dbopt_register_handler('hot', 'HOT', 'handle_hot(hot)', events => 'hot', ordered => true, chunk_size => 1, max_concurrency => 4);
});
my $written = q{SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'dbopt_retry_queue'};
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
my $before = sql($written);
sql(q{INSERT INTO hot (event_type, aggregate_type, aggregate_id, aggregate_version, data)
	SELECT 'HOT', 'a', '00000000-0000-0000-0000-000000000001', n, '{}' FROM generate_series(1, 1000) n});
becomes('SELECT count(*) FROM hot_done', '1000', 'all are delivered');
is(sql('SELECT count(*) FROM (SELECT version, row_number() OVER (ORDER BY call) AS place FROM hot_done) d WHERE version <> place'),
	'0', '... in order');
sql(q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
cmp_ok(sql($written) - $before, '<', 4000, '... with less than four rows of the retry queue written for each');

$node->stop;
done_testing();
