# dbopt_backlog() and the check "backlog" of dbopt_health(): which event is the
# oldest that waits, and how many there are where they are not counted.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('backlog');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nmax_worker_processes = 16\nautovacuum = off");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub backlog
{
	my ($columns, $handler) = @_;

	return sql("SELECT $columns FROM dbopt_backlog() WHERE handler = '$handler'");
}

# A transaction that has written events, of which nothing is committed yet.
sub begin_with
{
	my ($insert) = @_;
	my $session = $node->background_psql('postgres', on_error_die => 1);

	$session->query_safe("BEGIN; $insert");
	return $session;
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE gate (is_open boolean);
	INSERT INTO gate VALUES (false);
});

# ---- events that are committed late --------------------------------------

# They come before those that a session has taken meanwhile.
foreach my $case ([ 'plain', '' ], [ 'marked', ', processed boolean NOT NULL DEFAULT false' ])
{
	my ($table, $column) = @$case;
	my $late = sub { "INSERT INTO $table (event_type, created_at) SELECT 'A', now() - interval '$_[0]' FROM generate_series(1, $_[1])" };

	sql(qq{
		CREATE TABLE $table (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL, created_at timestamptz DEFAULT now()$column);
		SELECT dbopt_attach_events('$table');
		CREATE FUNCTION pass($table) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			WHILE NOT (SELECT is_open FROM gate) LOOP
				PERFORM pg_sleep(0.02); /* handler */
			END LOOP;
		END \$\$;
		SELECT dbopt_register_handler('$table', '*', 'pass($table)', events => '$table', max_concurrency => 1)});
	my $hour = begin_with($late->('1 h', 3));
	my $day = begin_with($late->('1 day', 2));
	sql($late->('1 min', 5));
	ok($node->poll_query_until('postgres', q{SELECT count(*) FROM dbopt_chunk}, '1'), "$table: some are being handled");
	is(backlog(q{waiting, lag BETWEEN '1 min' AND '30 min'}, $table), '5|t', '... and counted');
	$day->query_safe('COMMIT');
	is(backlog(q{waiting, lag BETWEEN '1 day' AND '2 days'}, $table), '7|t', 'the first one in the log is the oldest, whoever has not taken it');
	$hour->query_safe('COMMIT');
	is(backlog(q{waiting, lag BETWEEN '1 h' AND '2 h'}, $table), '10|t', '... and not the one that was committed first');
	is(sql(q{SELECT status FROM dbopt_health() WHERE check_name = 'backlog'}), 'critical', '... for dbopt_health(), too');
	$_->quit foreach $hour, $day;
	sql('UPDATE gate SET is_open = true');
	is(sql('SELECT dbopt_drain()'), 't', 'delivered');
	is(backlog('waiting, lag IS NULL', $table), '0|t', 'nothing waits');
	sql('UPDATE gate SET is_open = false');
}

# ---- more than are counted -----------------------------------------------

# Those of a transaction that the cursor has passed are among them.
my $many = begin_with(q{INSERT INTO plain (event_type) SELECT 'A' FROM generate_series(1, 100000)});
sql(q{SELECT dbopt_pause_handler('marked')});
sql(q{UPDATE gate SET is_open = true; INSERT INTO plain (event_type) SELECT 'A' FROM generate_series(1, 10)});
is(sql('SELECT dbopt_drain()'), 't', 'a few are delivered');
sql(q{SELECT dbopt_trip_circuit_breaker('plain')});
$many->query_safe('COMMIT');
$many->quit;
sql(q{INSERT INTO plain (event_type) SELECT 'A' FROM generate_series(1, 100)});
sql('ANALYZE plain');
is(backlog('waiting BETWEEN 80000 AND 120000', 'plain'), 't', 'about 100,000 wait') or diag backlog('*', 'plain');
sql(q{DELETE FROM plain WHERE id % 20 <> 0; SELECT dbopt_reset_circuit_breaker()});
is(sql('SELECT dbopt_drain()'), 't', 'delivered');

# ---- times that are none -------------------------------------------------

sql(q{
	CREATE TABLE zoneless (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL, created_at timestamp);
	SELECT dbopt_attach_events('zoneless');
	CREATE FUNCTION ignore(zoneless) RETURNS void LANGUAGE sql AS '';
	SELECT dbopt_register_handler('zoneless', '*', 'ignore(zoneless)', events => 'zoneless')});
sql(q{SELECT dbopt_trip_circuit_breaker('zoneless')});
sql(q{INSERT INTO zoneless (event_type, created_at) VALUES ('A', '294276-12-31 23:59:59')});
ok($node->poll_query_until('postgres', q{SELECT waiting FROM dbopt_backlog() WHERE handler = 'zoneless'}, '1'), 'an event waits');
is(sql(q{SET timezone = 'America/New_York'; SELECT waiting, oldest_waiting IS NULL FROM dbopt_backlog() WHERE handler = 'zoneless'}),
	'1|t', 'a time out of range is none');
is(sql(q{SET timezone = 'America/New_York'; SELECT count(*) FROM dbopt_health() WHERE check_name = 'backlog'}), '1', '... and no error');
is(sql(q{SET timezone = 'Asia/Tokyo'; SELECT oldest_waiting > now() FROM dbopt_backlog() WHERE handler = 'zoneless'}), 't', 'where it is in range it is one');

# ---- handlers, types, and what has failed --------------------------------

# A row for each handler and type, whether events of it wait or have failed.
sql(q{
	CREATE TABLE failing (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_type text NOT NULL);
	SELECT dbopt_attach_events('failing');
	CREATE FUNCTION fail(failing) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE 'no' USING ERRCODE = CASE $1.event_type WHEN 'F.DEAD' THEN '22000' ELSE '08000' END;
	END $$;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, failure_threshold) VALUES ('later', 9, '1 h', '1 h', 1000);
	SELECT dbopt_register_handler('failing', 'F.*', 'fail(failing)', events => 'failing', policy => 'later'),
		dbopt_register_handler('idle', 'I.*', 'fail(failing)', events => 'failing');
	INSERT INTO failing (event_type) SELECT unnest('{F.DEAD,F.DEAD,F.LATER,F.LATER,F.LATER}'::text[])});
ok( $node->poll_query_until('postgres', q{SELECT (SELECT count(*) FROM dbopt_pending_retries), (SELECT count(*) FROM dbopt_dead_letters)}, '3|2'),
	'all have failed');
sql(q{SELECT dbopt_trip_circuit_breaker('failing')});
sql(q{INSERT INTO failing (event_type) SELECT unnest('{F.LATER,F.NEW,F.NEW}'::text[])});
my $failed = q{SELECT handler, event_type, waiting, retrying, dead FROM dbopt_backlog() WHERE handler IN ('failing', 'idle') ORDER BY 1, 2};
ok($node->poll_query_until('postgres', $failed, "failing|F.DEAD|0|0|2\nfailing|F.LATER|1|3|0\nfailing|F.NEW|2|0|0\nidle|I.*|0|0|0"),
	'what waits, is tried again, and was given up')
  or diag sql($failed);

$node->stop;
done_testing();
