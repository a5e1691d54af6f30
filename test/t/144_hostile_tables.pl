# Everything that a table can be made to run: on the tables that a handler
# reads and writes, which belong to somebody else, and where dbopt builds and
# estimates indexes for who may be a superuser.  It never becomes another role.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('hostile');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\ndbopt.pool_max = 2\ndbopt.pool_acquire_timeout = '10 ms'\nfsync = off");

# Autovacuum would evaluate what indexes call, too, in sessions that count as a
# superuser's here.
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub as_mallory
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement, extra_params => [ '-U', 'mallory' ]);
}

# Who ran anything of mallory's, in sessions of these roles, and whether it was
# another role after it had tried to become one.
sub runners
{
	my ($login) = @_;

	return sql("SELECT string_agg(DISTINCT who, ', ' ORDER BY who) FROM who WHERE login ~ '^($login)\$'");
}

sub run_by
{
	my ($login, $who) = @_;

	return sql("SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM who WHERE login ~ '^($login)\$' AND who = '$who' AND what !~ '^after '");
}

sql(q{
	CREATE ROLE app LOGIN;			-- runs handlers
	CREATE ROLE boss;				-- whom nobody may become
	CREATE ROLE sleeper;			-- owns tables, and cannot log in
	CREATE ROLE mallory LOGIN IN ROLE sleeper;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	CREATE SCHEMA sleeper AUTHORIZATION sleeper;
	CREATE EXTENSION dbopt CASCADE;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('once', 1, '10 ms', '20 ms', 'none', true, 1000000);
	GRANT EXECUTE ON FUNCTION dbopt_attach_events, dbopt_register_handler TO sleeper, mallory;
	GRANT INSERT ON dbopt_index TO sleeper, mallory;
	CREATE TABLE who (what text, who name DEFAULT current_user, login name DEFAULT session_user);
	GRANT INSERT ON who TO PUBLIC;
});
as_mallory(q{
	GRANT USAGE ON SCHEMA mallory TO PUBLIC;
	SET search_path = mallory;
	CREATE FUNCTION tell(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
	DECLARE
		attempt text;
	BEGIN
		INSERT INTO public.who (what) VALUES (what);
		FOREACH attempt IN ARRAY ARRAY['SET ROLE postgres', 'SET ROLE boss', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres',
			'RESET SESSION AUTHORIZATION', 'SELECT set_config(''role'', ''postgres'', false)', 'SELECT set_config(''role'', ''none'', false)',
			'SELECT set_config(''session_authorization'', ''postgres'', true)', 'COPY public.who TO PROGRAM ''cat''',
			'SELECT public.dbopt_with_connection(''SET ROLE postgres'')', 'UPDATE public.dbopt_handler SET role_oid = 10',
			'ALTER ROLE mallory SUPERUSER', 'DECLARE later CURSOR WITH HOLD FOR SELECT mallory.tell(''cursor'')']
		LOOP
			BEGIN
				EXECUTE attempt;
				INSERT INTO public.who (what) VALUES ('after ' || attempt);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN true;
	END $$;
	CREATE FUNCTION told(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.tell(what); RETURN 0; END $$;
	CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM mallory.tell(TG_ARGV[0]); RETURN coalesce(NEW, OLD); END $$;
	CREATE FUNCTION in_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN PERFORM mallory.tell('definer'); PERFORM mallory.invoker(); RETURN NULL; END $$;
	CREATE FUNCTION invoker() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.tell('definer chain'); END $$;
});

# ---- tables of a handler -------------------------------------------------------------

as_mallory(q{
	SET search_path = mallory;
	CREATE DOMAIN checked AS int CHECK (mallory.tell('domain'));
	CREATE TABLE effects (id int, value checked DEFAULT told('default'), doubled int GENERATED ALWAYS AS (id + told('generated')) STORED,
		CHECK (mallory.tell('check')));
	CREATE INDEX ON effects ((id + told('index'))) WHERE id > told('predicate');
	CREATE TABLE others (id int PRIMARY KEY);
	ALTER TABLE effects ENABLE ROW LEVEL SECURITY;
	CREATE POLICY everything ON effects USING (mallory.tell('policy')) WITH CHECK (mallory.tell('policy check'));
	CREATE TRIGGER before BEFORE INSERT OR UPDATE ON effects FOR EACH ROW EXECUTE FUNCTION in_trigger('before');
	CREATE TRIGGER after AFTER INSERT OR UPDATE ON effects FOR EACH STATEMENT EXECUTE FUNCTION in_trigger('after');
	CREATE TRIGGER conditional AFTER UPDATE ON effects FOR EACH ROW WHEN (mallory.tell('when')) EXECUTE FUNCTION in_trigger('conditional');
	CREATE TRIGGER definer AFTER INSERT ON effects FOR EACH ROW EXECUTE FUNCTION in_definer();
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION in_trigger('deferred');
	CREATE RULE rule AS ON UPDATE TO effects DO ALSO SELECT mallory.tell('rule');
	CREATE VIEW pane AS SELECT id FROM effects WHERE mallory.tell('view');
	CREATE TRIGGER instead INSTEAD OF INSERT ON pane FOR EACH ROW EXECUTE FUNCTION in_trigger('instead');
	GRANT ALL ON effects, pane TO app;
	-- What the handler's own search path finds before PostgreSQL's.
	CREATE FUNCTION planted(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN mallory.tell('operator'); END $$;
	CREATE OPERATOR = (FUNCTION = planted, LEFTARG = int, RIGHTARG = int);
	CREATE FUNCTION planted(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN mallory.tell('not the handler''s'); END $$;
	CREATE OPERATOR = (FUNCTION = planted, LEFTARG = bigint, RIGHTARG = bigint);
	CREATE FUNCTION planted(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN mallory.tell('not the handler''s'); END $$;
	CREATE OPERATOR = (FUNCTION = planted, LEFTARG = text, RIGHTARG = text);
	CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.tell('function'); RETURN pg_catalog.now(); END $$;
	CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
	BEGIN PERFORM mallory.tell('not the handler''s'); RETURN pg_catalog.now(); END $$;
	CREATE FUNCTION unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.tell('not the handler''s'); END $$;
	CREATE TABLE dbopt_handler (id int);
	CREATE TABLE pg_class (oid oid);
});
sql(q{
	CREATE TABLE log (id int PRIMARY KEY, event_type text NOT NULL, processed boolean DEFAULT false, processed_at timestamptz,
		error_message text);
	SELECT dbopt_attach_events('log');
	GRANT SELECT, UPDATE ON log TO app;
	ALTER ROLE app SET search_path = mallory, pg_temp, public, pg_catalog;
	CREATE FUNCTION write(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO mallory.effects (id) VALUES (e.id);
		UPDATE mallory.effects SET id = id;
		PERFORM FROM mallory.pane;
		INSERT INTO mallory.pane VALUES (1);
		PERFORM e.id = 1, now();
		CREATE TEMPORARY TABLE log (id int);
		DROP TABLE pg_temp.log;
		IF e.event_type OPERATOR(pg_catalog.=) 'BAD' THEN RAISE 'bad'; END IF;
	END $$;
	SELECT dbopt_register_handler('write', '*', 'write(log)', 'log', run_as => 'app', policy => 'once');
	CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.tell('on ' || TG_EVENT); END $$;
	CREATE EVENT TRIGGER on_start ON ddl_command_start EXECUTE FUNCTION on_ddl();
	CREATE EVENT TRIGGER on_drop ON sql_drop EXECUTE FUNCTION on_ddl();
	CREATE EVENT TRIGGER on_end ON ddl_command_end EXECUTE FUNCTION on_ddl();
	TRUNCATE who;
	INSERT INTO log SELECT n, CASE WHEN n = 7 THEN 'BAD' ELSE 'GOOD' END FROM generate_series(1, 10) n;
});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', "a handler with tables of somebody else's");
is(sql(q{SELECT count(*) FILTER (WHERE processed), max(error_message) FROM log}), '9|bad', '... has handled its events');
is(run_by('app', 'app'),
	'after, before, check, conditional, cursor, default, deferred, domain, function, generated, index, instead, on ddl_command_end, on ddl_command_start, on sql_drop, operator, policy, policy check, predicate, rule, view, when',
	'... runs what they bring with them');
is(run_by('app', 'mallory'), 'definer, definer chain', '... what is SECURITY DEFINER as their owner');
is(runners('app'), 'app, mallory', 'that becomes nobody else');
is(runners('postgres'), '', "and nobody else's session runs any of it");

# ---- indexes of who cannot log in ----------------------------------------------------

# Built by a superuser's session, from PostgreSQL 17 on also by one of theirs;
# the functions turn hostile when all is made.
# What a partition key calls runs whenever somebody looks at the partitions.
sql('DROP EVENT TRIGGER on_start; DROP EVENT TRIGGER on_drop; DROP EVENT TRIGGER on_end; TRUNCATE who');
sql(q{ALTER SYSTEM SET dbopt.index_inline_pages = 0; SELECT pg_reload_conf()});
as_mallory(q{
	BEGIN;
	SET ROLE sleeper;
	SET search_path = sleeper;
	CREATE FUNCTION told(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 0; END $$;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL) PARTITION BY RANGE (id);
	SELECT public.dbopt_attach_events('events');
	ALTER TABLE events DROP CONSTRAINT events_pkey;
	DROP INDEX idx_events_log;
	CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10000) PARTITION BY LIST ((id % 2 + told('key')));
	CREATE TABLE events_1_0 PARTITION OF events_1 FOR VALUES IN (0);
	CREATE TABLE events_1_1 PARTITION OF events_1 FOR VALUES IN (1);
	CREATE INDEX ON events ((id + told('index'))) WHERE id > told('predicate');
	INSERT INTO events SELECT n, 'A' FROM generate_series(1, 1000) n;
	INSERT INTO public.dbopt_index (name, table_name, definition)
		VALUES ('idx_declared', 'sleeper.events', '((id + sleeper.told(''declared''))) WHERE id > sleeper.told(''declared predicate'')');
	RESET ROLE;
	GRANT USAGE ON SCHEMA mallory TO sleeper;
	SET ROLE sleeper;
	CREATE OR REPLACE FUNCTION told(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.tell(what); RETURN 0; END $$;
	COMMIT;
});
ok($node->poll_query_until('postgres', q{SELECT state = 'ready' FROM dbopt_sources WHERE events = 'sleeper.events'}),
	'the log index of a partitioned table is built');
sql('CALL dbopt_ensure_indexes(NULL, true)');
is(sql(q{SELECT status FROM dbopt_index_status() WHERE name = 'idx_declared'}), 'valid', 'an index that is declared is built');
like(run_by('postgres|sleeper', 'sleeper'), qr/^(cursor, )?declared, declared predicate, index, key, predicate$/,
	'by somebody, as the owner of the table');
unlike(run_by('postgres', 'sleeper'), qr/cursor/, "... who leaves nothing for the commit of a superuser's session");
is(runners('postgres|sleeper'), 'sleeper', '... and as nobody else');

# Who asks about them
foreach my $query (
	q{dbopt_index_status()},
	q{dbopt_estimate_indexes()},
	q{dbopt_index_advice()},
	q{dbopt_health()},
	q{dbopt_report()},
	q{dbopt_backlog()},
	q{pg_index, dbopt_rebuilt_bytes(indexrelid) WHERE indrelid::regclass::text ~ '^sleeper'},
	q{dbopt_register_handler('read', '*', 'read(sleeper.events)', 'sleeper.events', start_from => 'beginning')},
	q{dbopt_drain('60 s')},
	q{dbopt_pause()},
	q{dbopt_resume()})
{
	sql('CREATE OR REPLACE FUNCTION read(e sleeper.events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$; TRUNCATE who');
	sql("SELECT * FROM $query");
	unlike(runners('postgres'), qr/postgres/, "as nobody else for: $query");
}

$node->stop;
done_testing();
