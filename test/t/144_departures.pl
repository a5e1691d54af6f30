# Handlers that end their own session, by a FATAL error or by exit(), or leave it
# without memory to go on with: the server lives on, and so does everybody else.
# The events that they do it at are dead letters after as many attempts as their
# policy has, and all others are delivered once.  An end that somebody else wants
# costs no attempt.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TestModule;
use Test::More;

my $dir = build_module();
my $node = PostgreSQL::Test::Cluster->new('departures');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
restart_after_crash = on
dbopt.pool_max = 4
log_statement = none
});
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

my $columns = q{id int PRIMARY KEY, event_type text NOT NULL, aggregate_type text DEFAULT 'a', aggregate_id text, aggregate_version int,
	act text NOT NULL DEFAULT 'succeed', arg text NOT NULL DEFAULT ''};

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE log ($columns);
	CREATE TABLE marked ($columns, processed boolean DEFAULT false, processed_at timestamptz, retry_count int, error_message text);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	CREATE TABLE done (id int);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('thrice', 3, '10 ms', '20 ms', 'none', false, 1000000);
	CREATE FUNCTION handle(log) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_row';
	CREATE FUNCTION handle(log[]) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_array';
	CREATE FUNCTION handle(marked) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_row';
	CREATE FUNCTION other(e log) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO done VALUES (e.id); END';
	-- Leaves at the commit.
	CREATE TABLE later (id int);
	CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM handle(jsonb_populate_record(NULL::log, '{"id": 0, "act": "leave_fatally", "arg": ""}'));
		RETURN NULL;
	END \$\$;
	CREATE CONSTRAINT TRIGGER leave AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave();
	CREATE FUNCTION handle_later(e log) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		INSERT INTO done VALUES (e.id);
		IF e.act = 'defer' THEN INSERT INTO later VALUES (e.id); END IF;
	END \$\$;
	SELECT dbopt_register_handler('other', 'OTHER', 'other(log)', 'log', policy => 'thrice');
});

my $id = 0;
my @bad = (1, 7, 100, 101, 250, 500);

# Events of a type, of which some make their handler leave; as many for another
# handler beside them.
sub insert
{
	my ($table, $type, $act, $arg) = @_;
	my $bad = join ', ', map { $id + $_ } @bad;

	sql(qq{
		BEGIN;
		INSERT INTO $table (id, event_type, aggregate_id, aggregate_version, act, arg)
		SELECT n, '$type', n % 10, n, CASE WHEN n IN ($bad) THEN '$act' ELSE 'succeed' END, '$arg'
		FROM generate_series($id + 1, $id + 500) n;
		INSERT INTO log (id, event_type) SELECT -n, 'OTHER' FROM generate_series($id + 1, $id + 500) n;
		COMMIT});
	$id += 500;
	return;
}

my $offset = -s $node->logfile;
foreach my $case (
	[ 'fatal', 'log', 'handle(log)', 'leave_fatally', '', '' ],
	[ 'exits', 'log', 'handle(log)', 'leave_silently', 0, '' ],
	[ 'fails', 'log', 'handle(log)', 'leave_silently', 3, '' ],
	[ 'arrays', 'log', 'handle(log[])', 'leave_fatally', '', '' ],
	[ 'marks', 'marked', 'handle(marked)', 'leave_fatally', '', '' ],
	[ 'ordered', 'log', 'handle(log)', 'leave_silently', 0, ', ordered => true' ],
	[ 'commits', 'log', 'handle_later(log)', 'defer', '', '' ],
	[ 'alone', 'log', 'handle(log)', 'leave_fatally', '', ', chunk_size => 1' ],
	[ 'starves', 'log', 'handle(log)', 'starve', '', '' ],
	[ 'starves_arrays', 'log', 'handle(log[])', 'starve', '', '' ],
	[ 'starves_marks', 'marked', 'handle(marked)', 'starve', '', '' ],
	[ 'starves_in_order', 'log', 'handle(log)', 'starve', '', ', ordered => true' ])
{
	my ($name, $table, $function, $act, $arg, $options) = @$case;
	my $type = uc $name;
	my $first = $id;

	# Who is in front of it must not be taken for it.
	$bad[0] = $act eq 'starve' ? 2 : 1;
	# To mark needs a subtransaction; from PostgreSQL 17 on, one that cannot
	# begin is the session's end.
	my $starves = $act eq 'starve' && ($table eq 'log' || $node->pg_version < 17);
	my ($code, $deed) =
	  $starves ? ('53200', 'left its session without memory when') : ('57P01', 'ended its session while');

	sql("SELECT dbopt_register_handler('$name', '$type', '$function', '$table', policy => 'thrice' $options)");
	insert($table, $type, $act, $arg);
	is(sql(q{SELECT dbopt_drain('120 s')}), 't', "$name: a handler that leaves is done with")
	  or diag sql('SELECT * FROM dbopt_retry_stats(); SELECT * FROM dbopt_pending_retries LIMIT 20; SELECT * FROM dbopt_chunk');
	is( sql(qq{SELECT count(*) FILTER (WHERE n <> CASE act WHEN 'succeed' THEN 1 ELSE 0 END),
				count(*) FILTER (WHERE (d.event_id IS NULL) <> (act = 'succeed'))
			FROM $table e LEFT JOIN dbopt_dead_letters d ON d.event_id = e.id::text
				CROSS JOIN LATERAL (SELECT count(*) AS n FROM done WHERE id = e.id) x
			WHERE e.event_type = '$type'}),
		'0|0', '... every other event is delivered, once, and those that it leaves at are given up');
	is( sql(qq{SELECT attempts, error_code, error_message, count(*) FROM dbopt_dead_letters WHERE handler = '$name' GROUP BY 1, 2, 3}),
		qq{3|$code|handler "$name" $deed it ran this event|} . @bad,
		'... after their attempts, with an error that tells the truth');
	is(sql(qq{SELECT successes, failures, dead_letters FROM dbopt_retry_stats() WHERE handler = '$name'}),
		(500 - @bad) . '|' . 3 * @bad . '|' . @bad, '... and counted');
	is(sql(qq{SELECT count(*), count(DISTINCT id) FROM done WHERE id BETWEEN -$first - 500 AND -$first - 1}),
		'500|500', '... while another handler has its own');
}
is( sql(q{SELECT processed, retry_count, error_message ~ 'ended its session', count(*) FROM marked WHERE event_type = 'MARKS'
		GROUP BY 1, 2, 3 ORDER BY 1}),
	"f|3|t|6\nt|0||494", 'a table that is marked says so');
is(sql(q{SELECT failures FROM dbopt_retry_stats() WHERE handler = 'other'}), '0', 'the other handler has never failed');
unlike(slurp_file($node->logfile, $offset), qr/PANIC|TRAP|server process.*was terminated|exited with exit code [^01]|terminating any other active/,
	'the server has not gone down for any of this');

# ---- an end that somebody else wants ---------------------------------------------

# Beside an event that it leaves at, the handler waits in another one.
sql(q{
	CREATE FUNCTION wait(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.act = 'wait' THEN
			INSERT INTO done VALUES (e.id);
			PERFORM pg_advisory_xact_lock(1);
		ELSE
			PERFORM handle(e);
		END IF;
	END $$;
	SELECT dbopt_register_handler('waits', 'WAITS', 'wait(log)', 'log', policy => 'thrice')});

my $owner = $node->background_psql('postgres');
$owner->query_safe('SELECT pg_advisory_lock(1)');
sql(q{INSERT INTO log (id, event_type, act) VALUES (100001, 'WAITS', 'succeed'), (100002, 'WAITS', 'leave_fatally'), (100003, 'WAITS', 'wait'),
	(100004, 'WAITS', 'succeed')});

my $waiting = q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};
my $ended = 0;
foreach my $time (1 .. 5)
{
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($waiting AND pid <> $ended) x"), "a handler waits, $time");
	$ended = sql($waiting);
	is(sql("SELECT pg_terminate_backend($ended, 60000)"), 't', '... and is ended by somebody else');
}
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($waiting AND pid <> $ended) x"), 'it waits once more');
$owner->query_safe('SELECT pg_advisory_unlock(1)');
$owner->quit;
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'and is let through');
is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done WHERE id > 100000}), '100001 100003 100004', 'what waited is delivered once');
is(sql(q{SELECT attempts, successes, failures, dead_letters FROM dbopt_retry_stats() WHERE handler = 'waits'}),
	'6|3|3|1', 'no attempt is counted for an end that somebody else wanted');
is(sql(q{SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue), (SELECT count(*) FROM dbopt_ordered)}),
	'0|0|0', 'nothing is left behind');

# ---- a time that ends sessions ---------------------------------------------------

# That of a role is not for its handlers; one that they set themselves is.
SKIP:
{
	skip 'transactions have no time-out before PostgreSQL 17', 3 if $node->pg_version < 17;
	sql(q{
		CREATE ROLE hasty LOGIN;
		ALTER ROLE hasty SET transaction_timeout = '50 ms';
		GRANT SELECT ON log TO hasty;
		GRANT INSERT ON done TO hasty;
		CREATE FUNCTION linger(e log) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO done VALUES (e.id);
			PERFORM set_config('transaction_timeout', e.arg, false) WHERE e.arg <> '';
			PERFORM pg_sleep(CASE e.arg WHEN '' THEN 0.3 ELSE 60 END); -- work
		END $$;
		SELECT dbopt_register_handler('hasty', 'HASTY', 'linger(log)', 'log', policy => 'thrice', run_as => 'hasty');
		INSERT INTO log (id, event_type, arg) VALUES (150001, 'HASTY', ''), (150002, 'HASTY', '50 ms'), (150003, 'HASTY', '')});
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'a role whose transactions have a time-out');
	is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done WHERE id BETWEEN 150000 AND 160000}), '150001 150003', '... has its events delivered, once');
	is(sql(q{SELECT event_id, attempts, error_code FROM dbopt_dead_letters WHERE handler = 'hasty'}), '150002|3|57P01',
		'... but for one that sets it itself, which is given up');
}

# ---- one that a crash has made a suspect ------------------------------------------

# Its session cannot even take back that it was being run: a row in dbopt_attempt
# that was left would be taken for another crash when the server ends next.
sql(q{
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter)
	VALUES ('twice', 2, '1 h', '1 h', 'none');
	SELECT dbopt_register_handler('suspect', 'SUSPECT', 'handle(log)', 'log', policy => 'twice')});
eval { sql("INSERT INTO log (id, event_type, act, arg) VALUES (200001, 'SUSPECT', 'crash_then_starve', '$dir/crashed')") };	# psql may be there yet
ok($node->poll_query_until('postgres', q{SELECT error_code IS NOT NULL FROM dbopt_pending_retries WHERE handler = 'suspect'}),
	'a suspect of a crash that leaves its session without memory has failed');
ok(-e "$dir/crashed", '... after it has crashed the server');
is( sql(q{SELECT attempts, error_code, error_message FROM dbopt_pending_retries WHERE handler = 'suspect'}),
	'1|53200|handler "suspect" left its session without memory when it ran this event', '... once');
is(sql('SELECT count(*) FROM dbopt_attempt'), '0', '... and is not taken for being run');

$node->stop;
done_testing();
