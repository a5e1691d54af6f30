# Columns that delivery goes by are renamed, dropped, and given other types while
# events are written and handled: what can go on does, what cannot waits in a
# state that says what is missing, and no event fails, is lost or doubled by it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use ExactlyOnce;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('columns');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
dbopt.pool_max = 4
fsync = off
log_statement = none
});
$node->start;

# No statement here may have to wait long.
asking($node, "SET statement_timeout = '30 s';\n");

# Columns that are renamed are written by their place.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('again', 1000, '20 ms', '50 ms', 'none', true, 1000000);
	CREATE SEQUENCE ids;
	CREATE TABLE log (id bigint PRIMARY KEY, event_type text NOT NULL, aggregate_version bigint, aggregate_type text DEFAULT 'a',
		aggregate_id int DEFAULT 1);
	CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
	CREATE TABLE marked (id bigint PRIMARY KEY, event_type text NOT NULL, processed boolean DEFAULT false, processed_at timestamptz,
		retry_count int, error_message text);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	CREATE TABLE effects (handler text, id bigint);
	CREATE TABLE failing AS SELECT 0.0 AS share;
	CREATE FUNCTION plain(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('plain', e.id);
		IF random() < (SELECT share FROM failing) THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION in_order(e jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('in_order', (e ->> 'id')::bigint);
		IF random() < (SELECT share FROM failing) THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION marks(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES ('marks', e.id);
		IF random() < (SELECT share FROM failing) THEN RAISE 'not now'; END IF;
	END $$;
	SELECT dbopt_register_handler('plain', '*', 'plain(log)', 'log', policy => 'again'),
		dbopt_register_handler('in_order', '*', 'in_order(jsonb)', 'log', policy => 'again', ordered => true),
		dbopt_register_handler('marks', '*', 'marks(marked)', 'marked', policy => 'again');
	CREATE TABLE control (go_on boolean);
	INSERT INTO control VALUES (true);
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT go_on FROM control) LOOP
			EXECUTE 'INSERT INTO log SELECT n, ''T'' || n % 3, n FROM (SELECT nextval(''ids'') AS n FROM generate_series(1, 4)) x';
			EXECUTE 'INSERT INTO marked SELECT n, ''T'' || n % 3 FROM (SELECT nextval(''ids'') AS n FROM generate_series(1, 4)) x';
			COMMIT;
			PERFORM pg_sleep(0.01); -- work
		END LOOP;
	END $$;
});

# ---- a session that is sent to a table just before that ------------------------------

# It stands still before it has begun, and so does the scheduler when it has
# sent it: nobody has looked at the changed table yet when the session does.
my $scheduler = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'});
my $at_rest = q{FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND };

sub stop_scheduler
{
	foreach my $try (1 .. 1000)
	{
		kill 'STOP', $scheduler;
		return if sql("SELECT count(*) $at_rest pid = $scheduler") eq '1';
		kill 'CONT', $scheduler;
	}
	die 'the scheduler never rests';
}

foreach my $column (qw(processed event_type log_position))
{
	sql(q{INSERT INTO marked VALUES (nextval('ids'), 'EARLY')});
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', "$column: nothing is left to do");
	becomes("SELECT count(*) > 0 $at_rest backend_type = 'dbopt session'", 't', '... a session is there for the next event');
	my @idle = split /\n/, sql("SELECT pid $at_rest backend_type = 'dbopt session'");
	kill 'STOP', @idle;
	sql(q{INSERT INTO marked VALUES (nextval('ids'), 'EARLY')});
	becomes(q{SELECT count(*) FROM dbopt_pool_sessions() WHERE state = 'busy'}, '1', '... and is sent to it');
	stop_scheduler();
	sql("ALTER TABLE marked RENAME COLUMN $column TO other");
	kill 'CONT', @idle;
	becomes("SELECT count(*) $at_rest backend_type = 'dbopt session'", scalar(@idle), '... when the column gets another name; it leaves');
	is(sql('SELECT (SELECT count(*) FROM dbopt_retry_queue), (SELECT count(*) FROM dbopt_dead_letter), (SELECT sum(failures) FROM dbopt_retry_stats())'),
		'0|0|0', '... the event has not failed');
	kill 'CONT', $scheduler;
	becomes(q{SELECT state FROM dbopt_source WHERE events_name = 'marked'}, 'broken', '... the table waits');
	sql("ALTER TABLE marked RENAME COLUMN other TO $column");
	becomes(q{SELECT count(*) FROM effects RIGHT JOIN marked USING (id) WHERE handler IS NULL OR NOT processed}, '0', '... and it is delivered when the column has its name back');
}

# ---- under load ------------------------------------------------------------------------

sql('UPDATE failing SET share = 0.02');
my ($in, $out) = ('', '');
my $writer = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL write()' ], '<', \$in, '>&', \$out);

# What is written from now on has its effects, of these handlers.
sub goes_on
{
	my ($what, @handlers) = @_;
	my $from = sql(q{SELECT nextval('ids')});

	@handlers = qw(plain in_order marks) unless @handlers;
	foreach my $handler (@handlers)
	{
		becomes("SELECT count(*) > 20 FROM effects WHERE handler = '$handler' AND id > $from", 't', "$what: $handler goes on");
	}
	return;
}

# What comes to a handler while it waits is delivered afterwards.
sub waits
{
	my ($what, $state, $reason, $others, $mend) = @_;

	becomes("SELECT state FROM $state", 'broken', "$what: it waits");
	like(sql("SELECT reason FROM $state"), $reason, '... and says why');
	goes_on($what, @$others);
	sql($mend);
	becomes("SELECT state FROM $state", 'ready', '... until that is mended');
	goes_on($what);
	return;
}

goes_on('at first');

# ---- columns of every events table -----------------------------------------------

foreach my $column (qw(event_type log_position))
{
	foreach my $table (qw(log marked))
	{
		my @others = $table eq 'log' ? qw(marks) : qw(plain in_order);

		sql("ALTER TABLE $table RENAME COLUMN $column TO other");
		waits(
			"$column of $table has another name",
			"dbopt_source WHERE events_name = '$table'",
			qr/^the table lacks one of the columns event_type, log_position and id$/,
			\@others, "ALTER TABLE $table RENAME COLUMN other TO $column");
	}
}
# ---- columns that say what is processed --------------------------------------------

sql('ALTER TABLE marked RENAME COLUMN processed TO done');
waits('processed has another name', q{dbopt_source WHERE events_name = 'marked'}, qr/^the table has lost its column processed boolean$/,
	[qw(plain in_order)], 'ALTER TABLE marked RENAME COLUMN done TO processed');
sql('ALTER TABLE marked RENAME COLUMN processed_at TO done_at');
goes_on('processed_at has another name');
sql('ALTER TABLE marked ALTER COLUMN retry_count TYPE text, ALTER COLUMN error_message TYPE varchar(3) USING left(error_message, 3)');
goes_on('its companions are of other types');
sql('ALTER TABLE marked DROP COLUMN done_at, DROP COLUMN retry_count, DROP COLUMN error_message');
goes_on('they are dropped');
sql('ALTER TABLE marked ADD COLUMN processed_at timestamptz, ADD COLUMN retry_count int, ADD COLUMN error_message text');
goes_on('they are there again');

# ---- columns that an ordered handler goes by ---------------------------------------

my $ordered = q{dbopt_handlers WHERE name = 'in_order'};
my $resume = q{SELECT dbopt_resume_handler('in_order')};
sql('ALTER TABLE log RENAME COLUMN aggregate_version TO version');
waits('the version has another name', $ordered,
	qr/^the events table has no column "aggregate_version", which an ordered handler needs: mend the table, then dbopt_resume_handler\(\)$/,
	[qw(plain marks)], "ALTER TABLE log RENAME COLUMN version TO aggregate_version; $resume");
sql('ALTER TABLE log ALTER COLUMN aggregate_version TYPE text');
waits('the version is a text', $ordered,
	qr/^the column "aggregate_version" of the events table is of a type that an ordered handler cannot go by: mend the table, then dbopt_resume_handler\(\)$/,
	[qw(plain marks)], "ALTER TABLE log ALTER COLUMN aggregate_version TYPE bigint USING aggregate_version::bigint; $resume");
sql('ALTER TABLE log ALTER COLUMN aggregate_version TYPE numeric, ALTER COLUMN aggregate_id TYPE bigint');
goes_on('the version is a number of another type');
sql('ALTER TABLE log DROP COLUMN aggregate_id');
waits('the aggregate is dropped', $ordered,
	qr/^the events table has no column "aggregate_id", which an ordered handler needs: mend the table, then dbopt_resume_handler\(\)$/,
	[qw(plain marks)], "ALTER TABLE log ADD COLUMN aggregate_id bigint DEFAULT 1; CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version); $resume");

# ---- each event once ------------------------------------------------------------------

sql('UPDATE control SET go_on = false');
ok($writer->finish, 'the writer has had no error') or diag $out;
drained($node, 'at the end');
each_once($node, 'plain', 'log', 'id', 500);
each_once($node, 'in_order', 'log', 'id', 500);
each_once($node, 'marks', 'marked', 'id', 500);
is(sql('SELECT count(*) FROM marked WHERE NOT processed'), '0', 'all are marked');
is(sql(q{SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue), (SELECT count(*) FROM dbopt_dead_letter),
	(SELECT count(*) FROM dbopt_ordered)}), '0|0|0|0', 'nothing is left behind');
is(sql(q{SELECT string_agg(DISTINCT last_error, ', ') FROM dbopt_retry_stats()}), 'not now', 'no event has failed for any of this');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|deadlock detected|was terminated by signal|exited with exit code [^01]/, 'nothing went wrong inside');

$node->stop;
done_testing();
