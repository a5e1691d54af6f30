# A commit that fails is the failure of the event that was alone in it: of that
# one and of no other, whatever happens between the commit and its being
# written down, and without another call of the handler.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('commits');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub becomes
{
	my ($query, $expected, $name) = @_;

	ok($node->poll_query_until('postgres', $query, $expected), $name)
	  or diag(sql('SELECT * FROM dbopt_pending_retries'));
	return;
}

# An event with a "fault" fails at its commit.  When it has been called
# wait_at times, its commit waits for whoever holds the lock first.  Calls are
# counted in sequences, which remember what is rolled back.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('quick', 3, '10 ms', '20 ms', 'none', true, 1000000), ('slow', 3, '1 h', '1 h', 'none', true, 1000000);
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, fault text, wait_at int);
	SELECT dbopt_attach_events('events');
	CREATE TABLE switch (down boolean);
	INSERT INTO switch VALUES (false);
	CREATE SEQUENCE calls_good;
	CREATE SEQUENCE calls_bad;
	CREATE TABLE done (id int, type text);
	CREATE TABLE guarded (id int, fault text, wait_at int);
	CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.fault IS NULL THEN
			RETURN NULL;
		END IF;
		IF NEW.fault = 'slow' THEN
			BEGIN
				PERFORM pg_sleep(3600); -- work
			EXCEPTION WHEN query_canceled THEN
				PERFORM pg_sleep(3600); -- work
			END;
		END IF;
		IF currval('calls_bad') = NEW.wait_at THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
		RAISE EXCEPTION 'at commit of %', NEW.id USING ERRCODE = NEW.fault;
	END $$;
	CREATE CONSTRAINT TRIGGER guard AFTER INSERT ON guarded DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION guard();
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT down FROM switch) THEN
			RAISE EXCEPTION 'not yet';
		END IF;
		PERFORM CASE WHEN e.fault IS NULL THEN nextval('calls_good') ELSE nextval('calls_bad') END;
		INSERT INTO guarded VALUES (e.id, e.fault, e.wait_at);
		INSERT INTO done VALUES (e.id, e.event_type);
	END $$;
});

# Registers handle() for a type, and counts calls from zero again.
sub handler
{
	my ($type, $options) = @_;

	sql(qq{SELECT setval('calls_good', 1, false), setval('calls_bad', 1, false);
		SELECT dbopt_register_handler('$type', '$type', 'handle(events)', $options)});
	return;
}

my $calls = q{SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls_good),
	(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls_bad)};

sub stats
{
	my ($type) = @_;

	return qq{SELECT attempts, successes, failures, retries, dead_letters FROM dbopt_retry_stats() WHERE handler = '$type'};
}

# What is committed is counted a moment later.
sub counted
{
	my ($type, $expected, $name) = @_;

	becomes(stats($type), $expected, $name);
	return;
}

sub done
{
	my ($type) = @_;

	return sql(qq{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done WHERE type = '$type'});
}

# ---- one call is one attempt ---------------------------------------------

handler('alone', q{policy => 'quick', chunk_size => 1, max_concurrency => 1});
sql(q{INSERT INTO events SELECT i, 'alone', CASE WHEN i = 5 THEN 'P0001' END FROM generate_series(1, 9) i});
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'one event that fails at commit, alone in its transactions');
is(sql($calls), '8|3', 'is called once for each attempt');
counted('alone', '11|8|3|2|1', 'and so it is counted');
is(sql(q{SELECT event_id, attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'alone'}),
	'5|3|P0001|at commit of 5', 'it is given up with the error of its commit');
is(done('alone'), '1 2 3 4 6 7 8 9', 'the others are delivered once');

# Together with others it is called once more, to find out who it was.
handler('together', q{policy => 'quick', max_concurrency => 1});
sql(q{SELECT dbopt_pause_handler('together')});
sql(q{INSERT INTO events SELECT i, 'together', CASE WHEN i = 105 THEN 'P0001' END FROM generate_series(101, 109) i});
sql(q{SELECT dbopt_resume_handler('together')});
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'one in a chunk of nine');
is(sql($calls), '16|4', 'is called once more, and so are its neighbours');
counted('together', '11|8|3|2|1', 'which is not counted');
is(done('together'), '101 102 103 104 106 107 108 109', 'the others are delivered once');

# Many retries with bad ones among them: no more than twice the calls.
handler('retries', q{policy => 'slow', max_concurrency => 1});
sql(q{UPDATE switch SET down = true});
sql(q{INSERT INTO events SELECT i, 'retries', CASE WHEN i % 10 = 5 THEN 'P0001' END FROM generate_series(201, 250) i});
becomes(q{SELECT count(*) FROM dbopt_pending_retries}, '50', 'fifty retries wait');
sql(q{UPDATE switch SET down = false;
	UPDATE dbopt_retry_queue SET next_retry_at = now() - interval '1 min'; SELECT dbopt_resume()});
becomes(q{SELECT count(*) FROM dbopt_pending_retries WHERE next_retry_at < now()}, '0', 'all of them are tried');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'retries'}), '45|45', 'the good ones succeed once');
# Where calls have seemed to last long, some batches are of one event.
is(sql("SELECT good BETWEEN 45 AND 90, bad BETWEEN 5 AND 10 FROM ($calls) AS c (good, bad)"), 't|t', 'nobody is called more than twice')
  or diag(sql($calls));
is(sql(q{SELECT count(*), min(attempts), max(attempts), bool_and(error_message = 'at commit of ' || event_id) FROM dbopt_pending_retries}),
	'5|2|2|t', 'the bad ones have failed once more');
counted('retries', '100|45|55|50|0', 'as is counted');
sql(q{SELECT dbopt_unregister_handler('retries', true)});

# What is deferred to the commit has the handler's timeout, too.
handler('slow', q{policy => 'quick', max_concurrency => 1, timeout => '1 s'});
sql(q{SELECT dbopt_pause_handler('slow')});
sql(q{INSERT INTO events SELECT i, 'slow', CASE WHEN i = 265 THEN 'slow' END FROM generate_series(261, 269) i});
sql(q{SELECT dbopt_resume_handler('slow')});
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'a commit that lasts longer than the timeout');
is(sql(q{SELECT event_id, attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'slow'}),
	'265|3|57014|handler "slow" was cancelled by its timeout of 1000 ms', 'is a failure of its event');
is(done('slow'), '261 262 263 264 266 267 268 269', 'the others are delivered once');

# ---- the failure is its own, whatever comes between ------------------------

my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};

# The row goes while its commit fails, so that another event is first in the
# chunk when the failure is to be written down.
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
handler('gone', q{policy => 'slow', max_concurrency => 1});
sql(q{SELECT dbopt_pause_handler('gone')});
sql(q{INSERT INTO events SELECT i, 'gone', CASE WHEN i = 301 THEN 'P0001' END, 2 FROM generate_series(301, 303) i});
sql(q{SELECT dbopt_resume_handler('gone')});
becomes($waiting, '1', 'a commit is about to fail');
sql(q{DELETE FROM events WHERE id = 301});
$holder->quit;
is(sql(q{SELECT dbopt_drain('180 s')}), 't', 'its event is deleted before it has failed');
is(done('gone'), '302 303', 'the others are delivered');
is(sql(q{SELECT count(*) FROM dbopt_pending_retries}), '0', 'and none is charged');
counted('gone', '2|2|0|0|0', 'which the statistics confirm');

# Another retry, which is due before, is free again when the failure is to be
# written down.
handler('other', q{policy => 'slow', max_concurrency => 1});
sql(q{UPDATE switch SET down = true});
sql(q{INSERT INTO events VALUES (401, 'other', 'P0001', 2), (402, 'other', NULL, NULL), (403, 'other', NULL, NULL)});
becomes(q{SELECT count(*) FROM dbopt_pending_retries}, '3', 'three retries wait');
# The scheduler has looked for what is due, and does not when it is changed.
is(sql(q{SELECT dbopt_drain('10 min')}), 'f', '... for an hour');
my $locker = $node->background_psql('postgres');
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql(q{UPDATE switch SET down = false;
	UPDATE dbopt_retry_queue SET next_retry_at = now() - (CASE event_key WHEN '402' THEN 3 WHEN '401' THEN 2 ELSE 1 END) * interval '1 min'});
$locker->query_safe(q{BEGIN; SELECT FROM dbopt_retry_queue WHERE event_key = '402' FOR UPDATE});
sql(q{SELECT dbopt_resume()});
becomes($waiting, '1', 'a commit is about to fail');
$locker->query_safe('ROLLBACK');
$holder->quit;
$locker->quit;
becomes(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done WHERE type = 'other'}, '402 403', 'the others are delivered');
becomes(q{SELECT event_id, attempts, error_message FROM dbopt_pending_retries}, '401|2|at commit of 401', 'and the one that failed is charged');
counted('other', '6|2|4|3|0', 'which the statistics confirm');

$node->stop;
done_testing();
