# Tables, indexes and functions are changed while several sessions write events
# and handlers run them: each statement works, delivery goes on by itself, and
# every event has its effect once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('ddl');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
dbopt.pool_max = 5
fsync = off
log_statement = none
deadlock_timeout = '100 ms'
});
$node->start;

# No statement here may have to wait for ever.
my $limit = "SET statement_timeout = '170 s';\n";
asking($node, $limit);

# Writers know their tables by OID, as dbopt does, and go on whatever these
# are called.
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE SCHEMA elsewhere;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('again', 1000, '20 ms', '50 ms', 'none', true, 1000000);
	CREATE SEQUENCE ids;
	CREATE TABLE log (id bigint PRIMARY KEY DEFAULT nextval('ids'), event_type text NOT NULL, payload text DEFAULT 'x');
	CREATE TABLE marked (id bigint PRIMARY KEY DEFAULT nextval('ids'), event_type text NOT NULL, processed boolean DEFAULT false, payload text);
	CREATE TABLE parts (id bigint DEFAULT nextval('ids'), event_type text NOT NULL, day int NOT NULL DEFAULT 1, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
	CREATE TABLE part_0 PARTITION OF parts FOR VALUES IN (0);
	CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
	SELECT dbopt_attach_events('log'), dbopt_attach_events('marked'), dbopt_attach_events('parts', 'id');
	CREATE TABLE effects (handler text, id bigint);
	CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects VALUES ('log', e.id);
		IF random() < 0.02 THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION on_json(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects VALUES ('json', (e ->> 'id')::bigint) $$;
	CREATE FUNCTION on_marked(e marked) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.effects VALUES ('marked', e.id);
		IF random() < 0.02 THEN RAISE 'not now'; END IF;
	END $$;
	CREATE FUNCTION on_parts(e parts[]) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects SELECT 'parts', id FROM unnest(e) $$;
	SELECT dbopt_register_handler('log', '*', 'on_log(log)', 'log', policy => 'again'),
		dbopt_register_handler('json', '*', 'on_json(jsonb)', 'log', policy => 'again'),
		dbopt_register_handler('marked', '*', 'on_marked(marked)', 'marked', policy => 'again'),
		dbopt_register_handler('parts', '*', 'on_parts(parts[])', 'parts', policy => 'again');
	CREATE TABLE control (go_on boolean);
	INSERT INTO control VALUES (true);
	CREATE TABLE targets AS SELECT c.oid FROM unnest(ARRAY['log', 'marked', 'parts']::regclass[]) AS c(oid);
	CREATE FUNCTION put(target oid, count int) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('INSERT INTO %s (event_type) SELECT ''T'' || n %% 3 FROM generate_series(1, %s) n', target::regclass, count);
	EXCEPTION WHEN undefined_table OR undefined_object OR syntax_error THEN
		NULL; -- renamed just now
	END $$;
	CREATE PROCEDURE write() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT go_on FROM control) LOOP
			PERFORM put(oid, 4) FROM targets;
			COMMIT;
			PERFORM pg_sleep(0.01); -- work
		END LOOP;
	END $$;
});

my @writers;
for (1 .. 3)
{
	push @writers, IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL write()' ], '<', \undef, '>&', \my $out);
}

# What is written from now on has its effects, of every handler.
sub goes_on
{
	my ($what) = @_;
	my $from = sql(q{SELECT nextval('ids')});

	becomes("SELECT count(DISTINCT handler) FROM effects WHERE id > $from", '4', "$what: delivery goes on");
	return;
}

sub works
{
	my ($what, @statements) = @_;

	foreach my $statement (@statements)
	{
		my ($status, $out, $error) = $node->psql('postgres', "$limit$statement");

		is("$status $error", '0 ', $statement);
	}
	goes_on($what);
	return;
}

goes_on('at first');

works('new columns', q{ALTER TABLE log ADD COLUMN extra int DEFAULT 5}, q{ALTER TABLE parts ADD COLUMN extra int},
	q{ALTER TABLE marked ADD COLUMN extra timestamptz DEFAULT clock_timestamp()});
works('another type', 'ALTER TABLE log ALTER COLUMN extra TYPE text', 'ALTER TABLE parts ALTER COLUMN extra TYPE bigint',
	'ALTER TABLE marked ALTER COLUMN extra TYPE text');
works('renamed columns', 'ALTER TABLE log RENAME COLUMN extra TO more', 'ALTER TABLE marked RENAME COLUMN payload TO load');
works('dropped columns', 'ALTER TABLE log DROP COLUMN more, DROP COLUMN payload', 'ALTER TABLE parts DROP COLUMN extra', 'ALTER TABLE marked DROP COLUMN extra');
works('renamed tables', 'ALTER TABLE log RENAME TO journal', 'ALTER TABLE marked RENAME TO "Marked ""so"""', 'ALTER TABLE parts RENAME TO pieces');
works('another schema', 'ALTER TABLE journal SET SCHEMA elsewhere', 'ALTER TABLE pieces SET SCHEMA elsewhere', 'ALTER SCHEMA elsewhere RENAME TO "else"');
works('and back', 'ALTER TABLE "else".journal SET SCHEMA public', 'ALTER TABLE journal RENAME TO log', 'ALTER TABLE "Marked ""so""" RENAME TO marked',
	'ALTER TABLE "else".pieces SET SCHEMA public', 'ALTER TABLE pieces RENAME TO parts');
works('rewritten tables', 'VACUUM FULL log', 'VACUUM FULL marked', 'CLUSTER log USING log_pkey', 'CLUSTER marked USING marked_pkey', 'VACUUM FULL part_1', 'VACUUM ANALYZE');
works('indexes built anew', 'REINDEX TABLE log', 'REINDEX TABLE CONCURRENTLY log', 'REINDEX TABLE marked', 'REINDEX TABLE CONCURRENTLY parts');
works('other properties', 'ALTER TABLE log SET (fillfactor = 70)', 'ALTER TABLE log ADD CONSTRAINT positive CHECK (id > 0)', 'ALTER TABLE marked ENABLE ROW LEVEL SECURITY',
	'ALTER TABLE marked DISABLE ROW LEVEL SECURITY', 'ALTER TABLE log SET TABLESPACE pg_default', 'ALTER TABLE log REPLICA IDENTITY FULL');
works('functions replaced',
	q{CREATE OR REPLACE FUNCTION on_log(e log) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects VALUES ('log', e.id) $$},
	q{CREATE OR REPLACE FUNCTION on_json(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.effects VALUES ('json', (e ->> 'id')::bigint); END $$});

# What the trigger stands on cannot be changed under it.
foreach my $case (
	[ 'ALTER TABLE log ALTER COLUMN id TYPE text', qr/cannot alter type of a column used in a trigger definition/ ],
	[ 'ALTER TABLE log ALTER COLUMN event_type TYPE varchar(100)', qr/cannot alter type of a column used in a trigger definition/ ],
	[ 'ALTER TABLE log DROP COLUMN log_position', qr/trigger dbopt_stamp on table log depends on column log_position/ ],
	[ 'ALTER TABLE marked DROP COLUMN processed', qr/trigger dbopt_stamp on table marked depends on column processed/ ])
{
	my ($statement, $error) = @$case;
	my ($status, $out, $stderr) = $node->psql('postgres', $statement);

	like($stderr, $error, "refused: $statement");
}

# ---- log indexes that somebody drops --------------------------------------------

sql('DROP INDEX idx_events_log');
becomes(q{SELECT count(*) FROM dbopt_sources WHERE state <> 'ready'}, '0', 'a dropped log index is built again');
sql(q{SET search_path = public;
	SELECT 'DROP INDEX ' || indexrelid::regclass FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
		WHERE relname LIKE 'idx_events_log%' AND NOT relispartition \\gexec
	});
becomes(q{SELECT count(*) FROM dbopt_sources WHERE state <> 'ready'}, '0', '... also when all of them go at once');
goes_on('log indexes');

# ---- partitions --------------------------------------------------------------------

my $old = sql(q{WITH e AS (INSERT INTO parts (event_type, day) SELECT 'T1', 0 FROM generate_series(1, 50) RETURNING id) SELECT min(id) FROM e});
becomes(qq{SELECT count(*) FROM effects JOIN part_0 USING (id) WHERE handler = 'parts'}, '50', 'events of a partition');
works('partitions come and go', 'CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2)', 'ALTER TABLE parts DETACH PARTITION part_0',
	'ALTER TABLE parts ATTACH PARTITION part_0 FOR VALUES IN (0)', 'ALTER TABLE parts DETACH PARTITION part_0 CONCURRENTLY');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'part_0'::regclass AND tgname = 'dbopt_stamp'}), '0', 'a detached partition is an ordinary table');
sql(q{INSERT INTO part_0 (event_type, day) SELECT 'T1', 0 FROM generate_series(1, 10); UPDATE part_0 SET log_position = 0 WHERE log_position IS NULL});
works('with events that were written elsewhere', 'ALTER TABLE parts ATTACH PARTITION part_0 FOR VALUES IN (0)');
sql(q{UPDATE parts SET log_position = -1 WHERE id IN (SELECT id FROM part_0 EXCEPT SELECT id FROM effects WHERE handler = 'parts')});
works('a dropped partition', q{INSERT INTO parts (event_type, day) VALUES ('T1', 2)}, 'DROP TABLE part_2');

# ---- a handler's function is dropped ------------------------------------------------

sql('DROP FUNCTION on_json');
becomes(q{SELECT state FROM dbopt_handlers WHERE name = 'json'}, 'broken', 'a dropped function breaks its handler');
sql(q{CREATE FUNCTION on_json(e jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.effects VALUES ('json', (e ->> 'id')::bigint) $$;
	SELECT dbopt_register_handler('json', '*', 'on_json(jsonb)', 'log', policy => 'again', replace => true)});
goes_on('a new function');

# ---- tables that lose their events ------------------------------------------------------

sql(q{
	CREATE TABLE doomed (id bigint PRIMARY KEY DEFAULT nextval('ids'), event_type text NOT NULL);
	SELECT dbopt_attach_events('doomed');
	CREATE FUNCTION on_doomed(e doomed) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id % 3 = 0 THEN RAISE 'not now'; END IF;
		INSERT INTO public.effects VALUES ('doomed', e.id);
		PERFORM pg_sleep(0.002); -- work
	END $$;
	SELECT dbopt_register_handler('doomed', '*', 'on_doomed(doomed)', 'doomed', policy => 'again');
	INSERT INTO doomed (event_type) SELECT 'T' || n % 5 FROM generate_series(1, 3000) n;
	INSERT INTO targets VALUES ('doomed'::regclass)});
becomes(q{SELECT EXISTS (SELECT FROM effects WHERE handler = 'doomed') AND EXISTS (SELECT FROM dbopt_pending_retries WHERE handler = 'doomed')}, 't',
	'a table with events in flight and retries');
sql('TRUNCATE doomed');
my $mark = sql(q{SELECT nextval('ids')});
becomes("SELECT count(*) > 20 FROM effects WHERE handler = 'doomed' AND id > $mark", 't', 'TRUNCATE: what comes later is delivered');
is(sql("SELECT count(*) FROM dbopt_pending_retries WHERE handler = 'doomed' AND event_id::bigint < (SELECT min(id) FROM doomed)"), '0', '... what was before is forgotten');
sql('DROP TABLE doomed CASCADE; DELETE FROM targets WHERE oid NOT IN (SELECT oid FROM pg_class)');
becomes(q{SELECT reason FROM dbopt_sources WHERE state = 'broken'}, 'the table was dropped: unregister its handlers', 'DROP TABLE: says what to do');
goes_on('the other tables');
sql(q{SELECT dbopt_unregister_handler('doomed', discard => true)});
becomes(q{SELECT count(*) FROM dbopt_source WHERE state = 'broken'}, '0', '... and then nothing is left of it');

# ---- each event once ------------------------------------------------------------------------

sql('UPDATE control SET go_on = false');
ok($_->finish, 'a writer has had no error') foreach @writers;
is(sql(q{SELECT dbopt_drain('150 s')}), 't', 'nothing is left to deliver');
foreach my $case ([ log => 'log' ], [ json => 'log' ], [ marked => 'marked' ], [ parts => 'parts' ])
{
	my ($handler, $table) = @$case;

	is( sql(qq{SELECT count(*) FILTER (WHERE x.id IS NULL), count(*) FILTER (WHERE x.n > 1), count(*) > 100
		FROM $table e LEFT JOIN (SELECT id, count(*) AS n FROM effects WHERE handler = '$handler' GROUP BY id) x USING (id)}),
		'0|0|t', "$handler has had each event once");
}
is(sql(q{SELECT count(*) FROM marked WHERE NOT processed}), '0', 'all are marked');
is(sql(q{SELECT (SELECT count(*) FROM dbopt_chunk), (SELECT count(*) FROM dbopt_retry_queue), (SELECT count(*) FROM dbopt_dead_letter)}), '0|0|0', 'nothing is left behind');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|deadlock detected|cache lookup failed|exited with exit code [^01]/, 'nothing went wrong inside');

$node->stop;
done_testing();
