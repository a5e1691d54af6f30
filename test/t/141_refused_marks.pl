# Events of a table with "processed" that cannot be marked: a trigger, a
# constraint or a rule of the owner's is against it.  That is the failure of
# the events it concerns, and of no other; the handler's effects are taken back
# with it, nobody tries for ever, and who has mended it goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('refused');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nfsync = off");
$node->start;
asking($node);

sql(q{
	CREATE ROLE app LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('quick', 2, '10 ms', '20 ms', 'none', true, 1000000);
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, processed boolean DEFAULT false,
		retry_count int, error_message text, amount int);
	SELECT dbopt_attach_events('events');
	GRANT SELECT, UPDATE ON events TO app;
	CREATE TABLE seen (id int);
	GRANT INSERT ON seen TO app;
	CREATE FUNCTION see(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (e.id);
		IF e.event_type = 'B' AND e.amount = 1 THEN RAISE 'own failure'; END IF;
	END $$;
	SELECT dbopt_register_handler('see', '*', 'see(events)', run_as => 'app', policy => 'quick');
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id % 5 = 0 THEN RAISE 'not on a Monday'; END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id % 5 = 0 THEN RETURN NULL; END IF;
		RETURN NEW;
	END $$;
});

# Events from a number on, twenty each time; "why" is what the dead letters of
# every fifth say, undef when there are none.  Then all that were given up are
# tried again, which the mended table lets them.
my $first = 1;

sub refuses
{
	my ($what, $forbid, $why, $mend) = @_;
	my $last = $first + 19;
	my $own = $first + 2;
	my $dead = defined $why ? 5 : 1;

	sql("SELECT dbopt_pause(); INSERT INTO events (id, event_type, amount)"
		  . " SELECT n, CASE WHEN n % 2 = 0 THEN 'A' ELSE 'B' END, CASE WHEN n = $own THEN 1 WHEN n % 5 = 0 THEN -1 ELSE 2 END"
		  . " FROM generate_series($first, $last) n; $forbid; SELECT dbopt_resume()");
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', "$what: nothing is tried for ever");
	is(sql('SELECT count(*) FROM dbopt_dead_letters'), $dead, '... what it concerns is given up');
	is(sql(q{SELECT string_agg(DISTINCT error_message, ', ') FROM dbopt_dead_letters WHERE event_id::int % 5 = 0}),
		$why // '', '... and says why');
	is(sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM seen WHERE id BETWEEN $first AND $last"),
		join(' ', (20 - $dead) x 2), '... all others are delivered once, without effects of what is not');
	sql("$mend; UPDATE events SET amount = 2; SELECT dbopt_replay_dead_letters()");
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', '... when it is mended');
	is(sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM seen WHERE id BETWEEN $first AND $last"),
		'20 20', '... the rest is delivered, once');
	is(sql("SELECT count(*) FROM events WHERE NOT processed AND id BETWEEN $first AND $last"),
		defined $why ? '0' : '4', '... and marked, if the table allows it');
	$first += 20;
	return;
}

refuses('a trigger that raises', 'CREATE TRIGGER refuse BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION refuse()',
	'not on a Monday', 'DROP TRIGGER refuse ON events');
refuses('a constraint that old rows violate', 'ALTER TABLE events ADD CONSTRAINT amount CHECK (amount > 0) NOT VALID',
	'new row for relation "events" violates check constraint "amount"', 'ALTER TABLE events DROP CONSTRAINT amount');
refuses(
	'a deferred trigger that raises', q{CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON events DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION refuse()}, 'not on a Monday', 'DROP TRIGGER late ON events');

# Where the owner keeps the mark off without a word, once is once.
refuses('a trigger that skips the update', 'CREATE TRIGGER keep BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION keep()',
	undef, 'DROP TRIGGER keep ON events');
sql('UPDATE events SET processed = true WHERE NOT processed');

# Failures that cannot be noted beside their events: the log tells of some, as of
# all other trouble with events, and of how many more there were.
sql(q{SELECT dbopt_discard_dead_letters(); CREATE TRIGGER refuse BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE FUNCTION fail(e events) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'own failure'; END$$;
	SELECT dbopt_register_handler('fail', 'FAIL', 'fail(events)', run_as => 'app', policy => 'quick');
	INSERT INTO events (id, event_type) SELECT 10000 + 5 * n, 'FAIL' FROM generate_series(1, 100) n});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', '100 events fail twice');
is(sql(q{SELECT count(*) FROM events WHERE id > 10000 AND error_message IS NULL AND retry_count IS NULL}), '100', '... which is not noted beside them');
is(sql(q{SELECT count(*) FROM dbopt_dead_letters WHERE error_message = 'own failure'}), '100', '... but in the dead letters');
my $log = $node->logfile;
becomes(qq{SELECT (SELECT count(*) FROM regexp_matches(pg_read_file('$log'), 'LOG:  dbopt: could[ ]not note a failure of handler "fail" beside its event\n', 'g'))
	+ (SELECT coalesce(sum(m[1]::int), 0) FROM regexp_matches(pg_read_file('$log'), '(\\d+)[ ]log lines "event.note" of handler "fail" were left out', 'g') m)},
	'200', '... of which the log tells');
my @notes = slurp_file($log) =~ /LOG:  dbopt: could not note a failure of handler "fail" beside its event\n.*DETAIL:  (\{"environment".*\})$/mg;
cmp_ok(scalar @notes, '<=', 50, '... in few lines');
like($notes[0] // '', qr/"operation": "event\.note", "handler": "fail", "event_id": "10\d\d\d", "event_type": "FAIL", "attempt": 1, "sqlstate": "P0001"/,
	'... with their particulars');
sql('DROP TRIGGER refuse ON events; UPDATE events SET processed = true WHERE NOT processed; SELECT dbopt_discard_dead_letters()');

# ---- what is known before anything is run ---------------------------------------

sub broken
{
	my ($what, $break, $reason, $mend) = @_;

	sql($break);
	becomes('SELECT state FROM dbopt_sources', 'broken', "$what: broken");
	like(sql('SELECT reason FROM dbopt_sources'), $reason, '... and says what to do');
	sql("INSERT INTO events (id, event_type) VALUES ($first, 'A')");
	is(sql(q{SELECT dbopt_drain('60 s'); SELECT count(*) FROM dbopt_dead_letters}), "t\n0", '... nothing is given up');
	sql($mend);
	becomes("SELECT count(*) FROM seen WHERE id = $first", '1', '... delivered when it is mended');
	becomes("SELECT processed FROM events WHERE id = $first", 't', '... and marked');
	$first++;
	return;
}

broken('an unlogged table', 'ALTER TABLE events SET UNLOGGED', qr/^the table "events" is unlogged.*LOGGED$/, 'ALTER TABLE events SET LOGGED');

# A column that cannot be set is left alone.
sql(q{ALTER TABLE events DROP COLUMN error_message;
	ALTER TABLE events ADD COLUMN error_message text GENERATED ALWAYS AS ('event ' || id) STORED;
	INSERT INTO events (id, event_type) VALUES (1001, 'A')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'a generated column');
is(sql('SELECT processed, retry_count, error_message FROM events WHERE id = 1001'), 't|0|event 1001', '... is not updated');
my ($status, $out, $error) = $node->psql('postgres', q{
	CREATE TABLE generated (id int PRIMARY KEY, event_type text, done timestamptz, processed boolean GENERATED ALWAYS AS (done IS NOT NULL) STORED);
	SELECT dbopt_attach_events('generated')});
like($error, qr/column "processed" of table "generated" is a generated column/, 'processed itself cannot be one');

$node->stop;
done_testing();
