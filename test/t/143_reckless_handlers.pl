# Handlers that turn against what runs them: they end their own session, change
# or lock the tables that they are called for, set what can be set, and leave
# traps for dbopt's own statements.  Each event has succeeded or failed, once,
# and the next one is delivered.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('reckless');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 2");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

my @tables = qw(log marked);

sql(q{
	CREATE ROLE app LOGIN;
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('twice', 2, '10 ms', '20 ms', 'none', true, 1000000);
	CREATE TABLE effects (handler text, id int);
	CREATE TABLE log (id int PRIMARY KEY, event_type text, command text, error text);
	CREATE TABLE marked (id int PRIMARY KEY, event_type text, command text, error text, processed boolean DEFAULT false, processed_at timestamptz, error_message text);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked');
	GRANT INSERT ON effects TO app;
	GRANT SELECT, UPDATE ON log, marked TO app});
foreach my $table (@tables)
{
	# One of the superuser's, and one of a role that may do little.
	sql(qq{
		CREATE FUNCTION obey(e $table) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			INSERT INTO public.effects VALUES ('$table', e.id);
			IF e.command IS NOT NULL THEN EXECUTE e.command; END IF;
			IF e.error IS NOT NULL THEN RAISE '%', e.error; END IF;
		END \$\$;
		SELECT dbopt_register_handler('$table', 'RULE', 'obey($table)', '$table', policy => 'twice');
		SELECT dbopt_register_handler('$table app', 'APP', 'obey($table)', '$table', policy => 'twice', run_as => 'app')});
}

my $id = 0;

# What becomes of an event with this command: the error, or "done".
sub obeys
{
	my ($table, $command) = @_;

	$id++;
	sql("INSERT INTO $table VALUES ($id, 'RULE', \$command\$$command\$command\$)");
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', "$table, $command: is over");
	my $error = sql("SELECT error_code || ' ' || error_message FROM dbopt_dead_letters WHERE event_id = '$id'");
	my $count = sql("SELECT count(*) FROM effects WHERE id = $id");
	is($count, $error eq '' ? 1 : 0, '... with its effect, or none');
	return $error eq '' ? 'done' : $error;
}

foreach my $table (@tables)
{
	foreach my $case (
		[ 'SELECT pg_terminate_backend(pg_backend_pid())' => '57014 canceling statement due to user request' ],
		[ 'SELECT pg_terminate_backend(pg_backend_pid(), 60000)' => '57014 canceling statement due to user request' ],
		[ 'DO $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM 1; EXCEPTION WHEN query_canceled THEN NULL; END $$' => 'done' ],
		[ 'SELECT pg_cancel_backend(pg_backend_pid())' => '57014 canceling statement due to user request' ],
		[ "TRUNCATE $table" => '55006 cannot TRUNCATE' ],
		[ "DROP TABLE $table CASCADE" => '55006 cannot DROP ' ],
		[ "ALTER TABLE $table ADD COLUMN more int" => '55006 cannot ALTER TABLE' ],
		[ "REINDEX TABLE $table" => '55006 cannot REINDEX' ],
		[ "SELECT dbopt_detach_events('$table')" => '2BP01 table "' . $table . '" still has handlers' ],
		[ 'DROP EXTENSION dbopt CASCADE' => '55006 a handler cannot drop the extension that runs it' ],
		[ 'DROP OWNED BY CURRENT_USER CASCADE' => '(55006 a handler cannot drop|2BP01 cannot drop)' ],
		[ "LOCK TABLE $table" => 'done' ],
		[ 'LOCK TABLE dbopt_chunk, dbopt_cursor, dbopt_retry_queue, dbopt_dead_letter, dbopt_handler' => 'done' ],
		[ 'SELECT dbopt_pause(), dbopt_resume()' => 'done' ],
		[ "SELECT dbopt_pause_handler('$table'), dbopt_resume_handler('$table')" => 'done' ])
	{
		my ($command, $expected) = @$case;

		like(obeys($table, $command), qr/^$expected/, "... as it should: $expected");
	}
}
is(sql(q{SELECT count(*) FROM dbopt_sources WHERE state = 'ready'}), '2', 'the tables are what they were');
is(sql(q{SELECT dbopt_discard_dead_letters() > 0}), 't', 'all that is forgotten');

# ---- settings, and traps --------------------------------------------------------

# Everything of an event but its id, as a handler without rights can have it.
my @commands = map { "SET $_" } (
	q{search_path = pg_temp, public}, q{default_transaction_read_only = on}, q{default_transaction_isolation = 'serializable'},
	q{lock_timeout = '1 ms'}, q{statement_timeout = '1 ms'}, q{idle_in_transaction_session_timeout = '1 ms'}, q{DateStyle = 'SQL, DMY'},
	q{IntervalStyle = 'sql_standard'}, q{TimeZone = 'Asia/Kathmandu'}, q{extra_float_digits = -15}, q{bytea_output = 'escape'},
	q{client_encoding = 'SQL_ASCII'}, q{standard_conforming_strings = off}, q{transform_null_equals = on}, q{array_nulls = off},
	q{quote_all_identifiers = on}, q{enable_indexscan = off}, q{enable_seqscan = off}, q{plan_cache_mode = 'force_generic_plan'},
	q{default_tablespace = 'pg_default'}, q{temp_buffers = 100}, q{work_mem = '64 kB'}, q{row_security = off}, q{synchronous_commit = off},
	q{constraint_exclusion = on}, q{xmlbinary = 'hex'}, q{jit_above_cost = 0}, q{check_function_bodies = off}, q{session_authorization = app},
	q{LOCAL role = app}, q{CONSTRAINTS ALL IMMEDIATE});
push @commands, map { "CREATE TEMPORARY TABLE IF NOT EXISTS $_ (id int, handler_id int, cursor_id int, seq int, relname name, oid oid)" }
	qw(dbopt_chunk dbopt_cursor dbopt_cursor_version dbopt_retry_queue dbopt_dead_letter dbopt_handler dbopt_source log marked pg_class pg_proc);
push @commands, q{DO $$ BEGIN CREATE FUNCTION pg_temp.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END';
	EXCEPTION WHEN duplicate_function THEN NULL; END $$};

foreach my $table (@tables)
{
	# As a chunk that succeeds, then with every other event failing.
	foreach my $error ('NULL', q{CASE WHEN n % 2 = 0 THEN 'failed ' || n END})
	{
		my $from = $id + 1;
		my $values = join ', ', map { $id++; "($id, \$command\$$_\$command\$)" } @commands;

		sql(qq{INSERT INTO $table (id, event_type, command, error) SELECT n, 'APP', command, $error FROM (VALUES $values) v (n, command)});
		is(sql(q{SELECT dbopt_drain('60 s')}), 't', "$table, settings and traps, error $error: over");
		is( sql(qq{SELECT string_agg(format('%s: %s %s %s', e.id, e.command, f.n, d.error_message), E'\n')
				FROM $table e LEFT JOIN (SELECT id, count(*) AS n FROM effects GROUP BY id) f USING (id)
					LEFT JOIN dbopt_dead_letters d ON d.event_id = e.id::text
				WHERE e.id BETWEEN $from AND $id AND (coalesce(f.n, 0) <> CASE WHEN error IS NULL THEN 1 ELSE 0 END OR d.error_message IS DISTINCT FROM error)}),
			'', '... each event has succeeded once, or is a dead letter that says why');
	}
}
is(sql('SELECT count(*) FILTER (WHERE processed), count(*) FILTER (WHERE error IS NULL) FROM marked WHERE event_type = $$APP$$') =~ /^(\d+)\|\1$/, 1, 'what has succeeded is marked');
is(sql('SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue)'), '0|0', 'nothing is left behind');

# ---- who waits for a handler holds up nobody ---------------------------------------

# dbopt_drain() has looked at the table when the handler wants it for itself.
sql(q{CREATE FUNCTION lock_later(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM FROM pg_stat_activity WHERE query ~ 'SELECT dbopt_drain';
		IF NOT FOUND THEN RAISE 'nobody waits yet'; END IF;
		LOCK TABLE log;
	END $$;
	UPDATE dbopt_retry_policy SET max_attempts = 1000 WHERE name = 'twice';
	SELECT dbopt_register_handler('later', 'LATER', 'lock_later(log)', 'log', policy => 'twice');
	INSERT INTO log VALUES (0, 'LATER')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'a handler that locks its table while somebody waits for it');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|died at work|a job of handler|FATAL:  terminating background worker "dbopt session".*\n.*pg_terminate/, 'no session was lost');
done_testing();
