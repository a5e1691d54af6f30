# No work is kept waiting for ever by work that never ends: of one handler, new
# events by retries that are due again and again, and retries by new events; and
# handlers of a low priority by those of a higher one, which come first.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('turns');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;

# The events of type BAD fail as long as the table says so, and are due again
# before a batch of them has been run.
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	INSERT INTO dbopt_retry_policy
		(name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
	VALUES ('busy', 1000000, '1 ms', '1 ms', 'none', 1000000);
	CREATE TABLE failing (yes boolean);
	INSERT INTO failing VALUES (true);
	CREATE TABLE done (event_type text);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.event_type = 'BAD' AND (SELECT yes FROM failing) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
		INSERT INTO done VALUES (e.event_type);
	END $$;
	SELECT dbopt_register_handler('handle', '*', 'handle(events)',
		policy => 'busy', max_concurrency => 1);
	CREATE FUNCTION put(type text, count int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT type, 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, count)
	$$;
	SELECT put('BAD', 500);
});
$node->poll_query_until('postgres',
	'SELECT count(*) = 500 FROM dbopt_pending_retries')
  or die 'the events did not fail';

$node->safe_psql('postgres', q{SELECT put('GOOD', 1000)});
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 1000 FROM done}),
	'new events get their turn among retries');

$node->safe_psql('postgres', 'UPDATE failing SET yes = false');
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}),
	't', 'and everything is delivered in the end');
is( $node->safe_psql(
		'postgres',
		'SELECT event_type, count(*) FROM done GROUP BY 1 ORDER BY 1'),
	"BAD|500\nGOOD|1000",
	'each event once');

# ---- priorities ----------------------------------------------------------

# One session, and more to do than it can: the events of the urgent handlers
# come back as retries until the table says otherwise.
$node->safe_psql(
	'postgres', q{
	ALTER SYSTEM SET dbopt.pool_max = 1;
	SELECT pg_reload_conf();
	TRUNCATE done;
	CREATE SEQUENCE ticks;
	CREATE TABLE log (tick bigint DEFAULT nextval('ticks'), at timestamptz DEFAULT clock_timestamp(), handler text);
	CREATE FUNCTION urgent(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('ticks');
		PERFORM pg_sleep(0.002); -- work
		IF (SELECT yes FROM failing) THEN
			RAISE EXCEPTION 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
	END $$;
	CREATE FUNCTION first(e events) RETURNS void LANGUAGE sql AS $$INSERT INTO log (handler) VALUES ('first')$$;
	CREATE FUNCTION patient(e events) RETURNS void LANGUAGE sql AS $$INSERT INTO log (handler) VALUES ('patient')$$;
	CREATE FUNCTION patient_too(e events) RETURNS void LANGUAGE sql AS $$INSERT INTO log (handler) VALUES ('patient too')$$;
	SELECT dbopt_unregister_handler('handle', true);
	SELECT dbopt_register_handler('urgent', 'URGENT', 'urgent(events)', priority => 2147483647, policy => 'busy');
	SELECT dbopt_register_handler('urgent too', 'URGENT', 'urgent(events)', priority => 9, policy => 'busy');
	SELECT dbopt_register_handler('patient', 'OTHER', 'patient(events)', priority => 1, chunk_size => 1);
	SELECT dbopt_register_handler('patient too', 'OTHER', 'patient_too(events)', priority => 2, chunk_size => 1);
	UPDATE failing SET yes = true;
	SELECT put('URGENT', 300);
});
$node->poll_query_until('postgres', 'SELECT last_value > 300 FROM ticks') or die 'nothing runs';
$node->safe_psql('postgres', q{SELECT put('OTHER', 4)});
ok( $node->poll_query_until('postgres', q{SELECT count(*) = 8 FROM log}),
	'handlers of a low priority have their turns');

# A turn is one handler's, and may be of several chunks when nobody has asked
# for the session yet; between two of them the urgent ones tick.
is( $node->safe_psql('postgres', q{
	SELECT count(*) > 0, bool_and(ticks > 1), bool_and(pause >= '200 ms')
	FROM (SELECT tick - lag(tick) OVER w AS ticks, at - lag(at) OVER w AS pause, handler <> lag(handler) OVER w AS other
		FROM log WINDOW w AS (ORDER BY tick)) x
	WHERE other OR ticks > 1}),
	't|t|t', 'between which those of a higher one go on');
$node->safe_psql('postgres', 'UPDATE failing SET yes = false');
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'all is delivered');

# With nothing promoted yet, the higher priority is first.  On a machine that
# stands still for a second the others are promoted: the best of some attempts
# counts.
$node->safe_psql('postgres',
	q{SELECT dbopt_register_handler('first', 'OTHER', 'first(events)', priority => 3)});
my $served;
foreach my $attempt (1 .. 10)
{
	$node->safe_psql(
		'postgres', q{
		TRUNCATE log;
		SELECT dbopt_pause();
		SELECT put('OTHER', 50);
		SELECT dbopt_resume();
		SELECT dbopt_drain('5 min');
	});
	$served = $node->safe_psql('postgres',
		q{SELECT string_agg(DISTINCT handler, ' ') FROM (SELECT handler FROM log ORDER BY tick LIMIT 50) x});
	last if $served eq 'first';
}
is($served, 'first', 'a higher priority comes first');

# ---- how long the others wait --------------------------------------------

# Of n that wait, each has its turn within a second and n times 200 ms and the
# time of two chunks, as the README has it.  What is written down are starts of
# chunks, since each has one event: the longest is known from that.
my $waiting = 5;
$node->safe_psql(
	'postgres', qq{
	TRUNCATE log;
	SELECT dbopt_unregister_handler(name, true) FROM dbopt_handlers;
	CREATE FUNCTION busy(e events) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO log (handler) VALUES ('busy');
		IF (SELECT yes FROM failing) THEN
			PERFORM pg_sleep(0.1); -- work
		END IF;
	END \$\$;
	SELECT dbopt_register_handler('busy', 'BUSY', 'busy(events)', priority => 100, chunk_size => 1);
	DO \$do\$
	BEGIN
		FOR n IN 1..$waiting LOOP
			EXECUTE format('CREATE FUNCTION low_%1\$s(e events) RETURNS void LANGUAGE sql AS \$\$INSERT INTO log (handler) VALUES (''low %1\$s'')\$\$', n);
			PERFORM dbopt_register_handler('low ' || n, 'LOW', format('low_%s(events)', n)::regprocedure, priority => n);
		END LOOP;
	END \$do\$;
	SELECT put('LOW', 1);
	SELECT dbopt_drain('5 min'); -- nothing of theirs waits yet
	TRUNCATE log;
	UPDATE failing SET yes = true;
	SELECT put('BUSY', 3000);
});
$node->poll_query_until('postgres', 'SELECT count(*) > 2 FROM log') or die 'nothing runs';
foreach my $time (1 .. 3)
{
	my $since = $node->safe_psql('postgres', q{SELECT put('LOW', 1); SELECT clock_timestamp()});
	$since =~ s/\A\s+//;

	ok($node->poll_query_until('postgres', "SELECT count(*) = $time * $waiting FROM log WHERE handler ~ 'low'"),
		"handlers that wait have their turns, for the $time. time");
	is( $node->safe_psql('postgres', qq{
		SELECT max(at) FILTER (WHERE handler ~ 'low') - '$since' <= '1 s' + $waiting * ('200 ms' + 2 * max(chunk))
		FROM (SELECT *, lead(at) OVER (ORDER BY at) - at AS chunk FROM log) x}),
		't', 'as soon as promised')
	  or diag($node->safe_psql('postgres', "SELECT handler, at - '$since' FROM log WHERE at > '$since' ORDER BY at"));
}
is($node->safe_psql('postgres', q{SELECT count(*) < 3000 FROM log WHERE handler = 'busy'}), 't', 'although there is more to do before them');
$node->safe_psql('postgres', 'UPDATE failing SET yes = false');
is($node->safe_psql('postgres', q{SELECT dbopt_drain('5 min')}), 't', 'and it is done in the end');

$node->stop;
done_testing();
