# Handlers that fail: for one event, always, by their timeout, at commit, with
# errors of every kind.  Only the event that failed pays for it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('failing');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# What a handler does with an event stands in the event.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, bad boolean NOT NULL DEFAULT false, arg text);
	SELECT dbopt_attach_events('events');
	CREATE TABLE done (id int, type text);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('quick', 3, '10 ms', '20 ms', 'none', true, 1000000);
});

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub handler
{
	my ($name, $body, %options) = @_;
	my $more = join '', map { ", $_ => $options{$_}" } sort keys %options;

	$more .= ", policy => 'quick'" unless exists $options{policy};
	sql(    "CREATE FUNCTION $name(e events) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN $body END \$\$;"
		  . " SELECT dbopt_register_handler('$name', '\U$name\E', '$name(events)'$more)");
	return;
}

# The backlog of a handler that waits for nothing.
sub drained
{
	my ($what) = @_;

	is(sql("SELECT dbopt_drain('180 s')"), 't', $what);
	return;
}

my $done = 'INSERT INTO done VALUES (e.id, e.event_type);';

# ---- one bad event in a chunk of 500 -------------------------------------

handler('one', "IF e.bad THEN RAISE EXCEPTION 'bad event %', e.id; END IF; $done");
sql(q{SELECT dbopt_pause_handler('one')});
sql(q{INSERT INTO events SELECT i, 'ONE', i = 777 FROM generate_series(1, 2000) i});
sql(q{SELECT dbopt_resume_handler('one')});
drained('one bad event of 2000');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'ONE'}), '1999|1999', 'the others are delivered once');
is(sql(q{SELECT event_id, attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'one'}),
	'777|3|P0001|bad event 777', 'it is given up after its attempts');
is(sql(q{SELECT attempts, successes, failures, retries, dead_letters FROM dbopt_retry_stats() WHERE handler = 'one'}),
	'2002|1999|3|2|1', 'and only it has cost more than one');

# ---- always, in every way ------------------------------------------------

handler('always', "RAISE EXCEPTION 'never %', e.id USING ERRCODE = 'lock_not_available';");
sql(q{INSERT INTO events SELECT i, 'ALWAYS' FROM generate_series(10001, 10100) i});
drained('a handler that always fails');
is(sql(q{SELECT count(*), min(attempts), max(attempts), count(DISTINCT event_id), min(error_code),
		bool_and(error_message = 'never ' || event_id), bool_and(first_failed_at < failed_at)
	FROM dbopt_dead_letters WHERE handler = 'always'}),
	'100|3|3|100|55P03|t|t', 'each event is a dead letter after three attempts');
is(sql(q{SELECT attempts, successes, failures, retries, dead_letters FROM dbopt_retry_stats() WHERE handler = 'always'}),
	'300|0|300|200|100', 'all of them are counted');
is(sql(q{SELECT retrying, dead, waiting FROM dbopt_backlog() WHERE handler = 'always'}), '0|100|0', 'nothing waits');

handler('fatal', "RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation';", policy => "'event'");
sql(q{INSERT INTO events SELECT i, 'FATAL' FROM generate_series(11001, 11020) i});
drained('an error that is not retryable');
is(sql(q{SELECT count(*), min(attempts), max(attempts) FROM dbopt_dead_letters WHERE handler = 'fatal'}),
	'20|1|1', 'makes dead letters at once');

# ---- errors of every kind ------------------------------------------------

handler('odd', q{
	CASE e.arg
	WHEN 'empty' THEN RAISE EXCEPTION USING MESSAGE = '';
	WHEN 'long' THEN RAISE EXCEPTION USING MESSAGE = repeat('x', 1000000);
	WHEN 'umlaut' THEN RAISE EXCEPTION USING MESSAGE = repeat('ä', 5000);
	WHEN 'euro' THEN RAISE EXCEPTION USING MESSAGE = 'x' || repeat('€', 5000);
	WHEN 'format' THEN RAISE EXCEPTION USING MESSAGE = '%s %n %d %% 100%';
	WHEN 'lines' THEN RAISE EXCEPTION USING MESSAGE = E'one\ntwo\t\x22';
	ELSE RAISE EXCEPTION 'odd' USING ERRCODE = e.arg;
	END CASE; });
sql(q{INSERT INTO events SELECT 12000 + n, 'ODD', false, arg FROM unnest('{empty,long,umlaut,euro,format,lines,
	00000,01000,02000,ZZZZZ,XX000,XX001,57P01,57P02,57014,40001,08006,P0004,25P02,2D000,26000}'::text[]) WITH ORDINALITY AS u(arg, n)});
drained('odd errors');
is(sql(q{SELECT count(*), min(attempts), max(attempts) FROM dbopt_dead_letters WHERE handler = 'odd'}), '21|3|3', 'are errors as any other');
my $odd = q{SELECT string_agg(CASE WHEN length(error_message) > 100 THEN octet_length(error_message)::text || ' bytes'
		ELSE '<' || error_message || '>' END, ' ' ORDER BY event_id)
	FROM dbopt_dead_letters WHERE handler = 'odd' AND event_id <= '12006'};
is(sql($odd), qq{<> 4096 bytes 4096 bytes 4096 bytes <%s %n %d %% 100%> <one\ntwo\t\x22>}, 'their messages are kept, cut at whole characters');
is(sql(q{SELECT string_agg(error_code, ' ' ORDER BY event_id) FROM dbopt_dead_letters WHERE handler = 'odd' AND event_id > '12006'}),
	'P0001 01000 02000 ZZZZZ XX000 XX001 57P01 57P02 57014 40001 08006 P0004 25P02 2D000 26000', 'and so are their codes');

# The shared statistics cut at whole characters, too.
sql(q{SELECT dbopt_reset_stats()});
sql(q{INSERT INTO events VALUES (12100, 'ODD', false, 'euro')});
drained('one that is long');
is(sql(q{SELECT octet_length(last_error), last_error = 'x' || repeat('€', 84) FROM dbopt_retry_stats() WHERE handler = 'odd'}),
	'253|t', 'is cut in the statistics');

# ---- slow, and cancelled by its timeout ----------------------------------

handler('slow', "PERFORM pg_sleep(0.002); $done", timeout => "'1 min'");
sql(q{INSERT INTO events SELECT i, 'SLOW' FROM generate_series(20001, 20200) i});
drained('a slow handler');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'SLOW'}), '200|200', 'is given its time');
is(sql(q{SELECT attempts, failures FROM dbopt_retry_stats() WHERE handler = 'slow'}), '200|0', 'without failures');

handler('late', "IF e.bad THEN PERFORM pg_sleep(3600); END IF; $done", timeout => "'500 ms'");
sql(q{INSERT INTO events SELECT i, 'LATE', i % 50 = 0 FROM generate_series(21001, 21100) i});
drained('a handler that hangs for some events');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'LATE'}), '98|98', 'the others are delivered once');
is(sql(q{SELECT DISTINCT attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'late'}),
	'3|57014|handler "late" was cancelled by its timeout of 500 ms', 'those are retried, and given up');

# The timeout is that of one call, also where many calls make a chunk.
# A machine that stands still makes one last that long by itself: there is
# another round then, of a handler whose calls have not been timed either.
my $steady_calls = 0;
foreach my $round (1 .. 10)
{
	sql("CREATE SEQUENCE steady_calls_$round");
	handler("steady$round", "PERFORM nextval('steady_calls_$round'); PERFORM pg_sleep(0.01); $done", timeout => "'100 ms'");
	sql("INSERT INTO events SELECT 22000 + 64 * $round + i, 'STEADY$round' FROM generate_series(1, 64) i");
	drained('calls that last longer together than one may');
	$steady_calls = sql("SELECT last_value FROM steady_calls_$round");
	last if $steady_calls == 64;
}
is($steady_calls, '64', 'are not cancelled for it');

handler('stubborn', "IF e.bad THEN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END IF; $done",
	timeout => "'500 ms'");
sql(q{INSERT INTO events SELECT i, 'STUBBORN', i % 10 = 0 FROM generate_series(23001, 23020) i});
drained('a handler that swallows the cancel');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'STUBBORN'}), '18|18', 'the others are delivered once');
is(sql(q{SELECT DISTINCT attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'stubborn'}),
	'3|57014|handler "stubborn" was cancelled by its timeout of 500 ms', 'it is cancelled again');

# ---- at commit -----------------------------------------------------------

sql(q{CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)});
handler('deferred', "INSERT INTO child VALUES (CASE WHEN e.bad THEN e.id END), (NULL); IF NOT e.bad THEN $done END IF;");
sql(q{INSERT INTO events SELECT i, 'DEFERRED', i % 100 = 50 FROM generate_series(30001, 30300) i});
drained('a handler whose commit fails for some events');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM done WHERE type = 'DEFERRED'}), '297|297', 'the others are delivered once');
is(sql(q{SELECT count(*) FROM child}), '594', 'and what failed left nothing');
is(sql(q{SELECT count(*), min(attempts), max(attempts), min(error_code), bool_and(error_message ~ 'violates foreign key constraint "child_id_fkey"')
	FROM dbopt_dead_letters WHERE handler = 'deferred'}),
	'3|3|3|23503|t', 'those end as dead letters with the error of the constraint');
is(sql(q{SELECT attempts, successes, failures, retries FROM dbopt_retry_stats() WHERE handler = 'deferred'}), '306|297|9|6', 'counted once');

# Failures at commit are as good as others to the breaker.
sql(q{INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold, reset_timeout)
	VALUES ('fragile', 1000000, '10 ms', '10 ms', 'none', true, 5, '50 ms');
	CREATE TABLE switch (broken boolean);
	INSERT INTO switch VALUES (true);
	CREATE FUNCTION check_switch() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT broken FROM switch) THEN RAISE EXCEPTION 'down at commit'; END IF;
		RETURN NULL;
	END $$;
	CREATE TABLE guarded (id int);
	CREATE CONSTRAINT TRIGGER guard AFTER INSERT ON guarded DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION check_switch()});
handler('commits', "INSERT INTO guarded VALUES (e.id);", policy => "'fragile'");
sql(q{INSERT INTO events SELECT i, 'COMMITS' FROM generate_series(31001, 31030) i});
ok($node->poll_query_until('postgres', q{SELECT tripped >= 3 FROM dbopt_circuit_breakers() WHERE name = 'commits'}),
	'failures at commit open the breaker, and trials that fail so do again');
is(sql(q{SELECT count(*) FROM guarded}), '0', 'nothing is delivered meanwhile');
is(sql(q{SELECT successes FROM dbopt_circuit_breakers() WHERE name = 'commits'}), '0', 'and nothing is called a success');
sql(q{UPDATE switch SET broken = false});
drained('it recovers');
is(sql(q{SELECT count(*), count(DISTINCT id) FROM guarded}), '30|30', 'and each event is delivered once');

is(sql(q{SELECT count(*) FROM dbopt_chunk}), '0', 'no chunk is left over');
$node->stop;
done_testing();
